"""`instar evaluate`: measure a checkpoint."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from instar.cli.options import AllowUnknown, AsJson, Checkpoint, Parts, examples, given_path, part_of, show


@examples("instar evaluate runs/small/checkpoint-500", "instar evaluate runs/small/checkpoint-500 --split test --json")
def evaluate(
    checkpoint: Checkpoint,
    *,
    split: Annotated[Literal["eval", "test"], typer.Option(help="Which part of the run's data.")] = "eval",
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", parser=given_path, metavar="FILE", help="Measure on this file instead, read like the run's data."
        ),
    ] = None,
    parts: Parts = None,
    allow_unknown: AllowUnknown = False,
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint: loss, and the metrics of its task."""
    from instar.use.evaluate import evaluate as run

    part = part_of(input_file, parts)
    show(run(checkpoint, split=split, input_file=input_file, part=part, allow_unknown=allow_unknown), as_json=as_json)
