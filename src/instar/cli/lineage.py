"""`instar lineage`: where a checkpoint comes from."""

import json

import typer

from instar.cli.options import AsJson, Checkpoint, examples
from instar.core.errors import CheckpointError, InputMissingError


@examples("instar lineage runs/small/checkpoint-500")
def lineage(checkpoint: Checkpoint, as_json: AsJson = False) -> None:
    """Print a checkpoint and its ancestors, the youngest first."""
    from instar.checkpoint.lineage import STATE, chain, no_checkpoint

    if not checkpoint.is_dir():
        raise InputMissingError(f"{checkpoint}: no such folder; give a checkpoint, like runs/NAME/checkpoint-500")
    if not (checkpoint / STATE).is_file():
        raise no_checkpoint(checkpoint)
    links = chain(checkpoint)
    if links[0].get("problem"):
        raise CheckpointError(str(links[0]["problem"]))
    if as_json:
        typer.echo(json.dumps(links, default=str))
        return
    for depth, link in enumerate(links):
        typer.echo(
            f"{'   ' * max(0, depth - 1)}{'└─ ' if depth else ''}{link.get('path', link.get('checkpoint', '?'))}"
        )
        for name, value in link.items():
            if name not in ("path", "checkpoint", "parent") and value is not None:
                typer.echo(f"{'   ' * (depth + 1)}{name}: {value}")
