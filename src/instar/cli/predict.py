"""`instar predict`: predictions of a checkpoint for a file, or about a split of its run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from instar.cli.launched import CommandLineError
from instar.cli.options import AllowUnknown, AsJson, Model, Parts, examples, given_path, part_of, show


@examples(
    "instar predict runs/small/checkpoint-500 --input new.txt --output answers.jsonl",
    "instar predict runs/rating/checkpoint-500 --split test --output test.jsonl",
)
def predict(
    checkpoint: Model,
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output", parser=given_path, metavar="FILE.jsonl", help="One JSON object a line is written here."
        ),
    ],
    input_file: Annotated[
        Path | None, typer.Option("--input", parser=given_path, metavar="FILE", help="The file to read.")
    ] = None,
    split: Annotated[
        Literal["eval", "test"] | None,
        typer.Option(help="Or: this part of the run's data, with scores; a submission file where labels are withheld."),
    ] = None,
    parts: Parts = None,
    allow_unknown: AllowUnknown = False,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint's prediction for each document of a file, or of a split of its run."""
    from instar.use.predict import predict as run
    from instar.use.predict import predict_split

    if (input_file is None) == (split is None):
        raise CommandLineError("wanted one of --input FILE and --split eval|test")
    part = part_of(input_file, parts)
    if input_file is not None:
        done = run(checkpoint, input_file=input_file, output=output, part=part, allow_unknown=allow_unknown)
        show(done, as_json=as_json)
    elif split is not None:
        show(predict_split(checkpoint, split=split, output=output, allow_unknown=allow_unknown), as_json=as_json)
