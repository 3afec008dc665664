"""`instar schema`: what a run file may hold."""

import json

import typer

from instar.cli.options import examples


@examples("instar schema > run.schema.json")
def schema() -> None:
    """Print the JSON Schema of run files, for editors and programs."""
    from instar.config import schema as schema_of
    from instar.run.config import RunConfig

    typer.echo(json.dumps(schema_of(RunConfig), indent=2))
