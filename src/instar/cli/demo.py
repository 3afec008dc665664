"""`instar demo`: everything once, on real text and DNA."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import examples


@examples("instar demo", "instar demo --small --output /tmp/demo")
def demo(
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where its runs and report go.")] = Path("demo"),
    small: Annotated[bool, typer.Option("--small", help="A reduced size, for tests.")] = False,
) -> None:
    """Train three small models on real text and real DNA, kill one, resume it, and show the results."""
    from instar.run.demo import demo as run

    run(output, small=small)
