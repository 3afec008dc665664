"""`instar probe`: how well a checkpoint predicts every token."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from instar.cli.options import AsJson, Checkpoint, examples, folder, given_path, show


@examples("instar probe runs/dna/checkpoint-500 --data genome.fa --output tracks/")
def probe(
    checkpoint: Checkpoint,
    *,
    output: Annotated[
        Path, typer.Option(parser=folder, metavar="FOLDER", help="A new folder for the values and tracks.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            parser=given_path,
            metavar="FILE",
            help="Read this file, like the run's data; default: the run's data.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Share of the tokens masked at once; default: that of the run's evaluation.")
    ] = None,
    tracks: Annotated[
        Literal["bigwig", "bedgraph", "none"], typer.Option(help="Genome tracks, written beside the values.")
    ] = "bigwig",
    as_json: AsJson = False,
) -> None:
    """Mask every token exactly once, with frozen weights, and keep how well the checkpoint predicts it."""
    from instar.tracks.probe import Asked
    from instar.tracks.probe import probe as run

    show(run(checkpoint, output, Asked(data=data, rate=rate, tracks=tracks)), as_json=as_json)
