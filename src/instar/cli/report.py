"""`instar report`: a run in pictures."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import examples


@examples("instar report runs/small")
def report(run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Write figures and a self-contained report.html into a run folder."""
    from instar.run.report import report as run

    typer.echo(run(run_folder))
