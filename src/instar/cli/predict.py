"""`instar predict`: what a checkpoint says about a file."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import AsJson, Checkpoint, examples, show


@examples("instar predict runs/small/checkpoint-500 --input new.txt --output answers.jsonl")
def predict(
    checkpoint: Checkpoint,
    input_file: Annotated[Path, typer.Option("--input", metavar="FILE", help="The file to read.")],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE.jsonl", help="One JSON object a line is written here.")
    ],
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint's prediction for each document of a file."""
    from instar.run.predict import predict as run

    show(run(checkpoint, input_file=input_file, output=output), as_json=as_json)
