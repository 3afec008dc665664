"""`instar check`: everything short of training."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import AsJson, Overrides, RunFile, examples, given_path, show


@examples(
    "instar check run.yaml",
    "instar check run.yaml train.batch_tokens=4096 --json",
    "instar check run.yaml --picture rates.png",
)
def check(
    run_file: RunFile,
    overrides: Overrides = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            parser=given_path, metavar="FILE", help="Draw the learning rate here (.png, .svg), or write it (.csv)."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a run file and its data, show three samples and the learning rate, estimate memory and time."""
    from instar.run.check import check as run
    from instar.run.check import describe

    found = run(run_file, overrides or (), picture=picture)
    if as_json:
        show(found, as_json=True)
        return
    for line in describe(found):
        typer.echo(line)
