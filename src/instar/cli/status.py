"""`instar status`: how far a run is."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import AsJson, examples, given_path, show


@examples("instar status runs/small", "instar status runs/small --json")
def status(
    run_folder: Annotated[
        Path, typer.Argument(parser=given_path, metavar="RUN", help="A run folder, of a running or finished run.")
    ],
    as_json: AsJson = False,
) -> None:
    """Print how far a run is. A file `stop` or `save` in its folder makes it stop, or save, after the step."""
    from instar.run.status import status as run

    show(run(run_folder), as_json=as_json)
