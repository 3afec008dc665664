"""`instar report`: a run in pictures."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import AsJson, examples, given_path, show


@examples("instar report runs/small", "instar report runs/dna --annotation genes.gff3")
def report(
    run_folder: Annotated[Path, typer.Argument(parser=given_path, metavar="RUN", help="A run folder.")],
    annotation: Annotated[
        Path | None,
        typer.Option(
            parser=given_path,
            metavar="FILE",
            help="GFF3, GTF or BED: adds the masking values of its classes over time.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write figures and a self-contained report.html into a run folder."""
    from instar.use.report import report as run

    page = run(run_folder, annotation, log=lambda line: typer.echo(line, err=True))
    if as_json:
        show({"report": str(page)}, as_json=True)
    else:
        typer.echo(page)
