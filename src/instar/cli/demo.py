"""`instar demo`: everything once, on real text and DNA."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import examples, folder


@examples("instar demo", "instar demo --genome", "instar demo --small --output /tmp/demo")
def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            parser=folder, metavar="FOLDER", help="Where its runs and report go; default: demo, or demo-genome."
        ),
    ] = None,
    *,
    genome: Annotated[
        bool, typer.Option("--genome", help="Adaptive beside uniform masking on a yeast chromosome, and a browser.")
    ] = False,
    small: Annotated[bool, typer.Option("--small", help="A reduced size, for tests.")] = False,
) -> None:
    """Train three small models on real text and real DNA, kill one, resume it, and show the results."""
    if genome:
        from instar.demo.genome import demo_genome

        demo_genome(output or Path("demo-genome"), small=small)
        return
    from instar.demo import demo as run

    run(output or Path("demo"), small=small)
