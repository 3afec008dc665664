"""`instar train`: train, or resume training."""

from pathlib import Path
from typing import Annotated

import typer

from instar.cli.options import AsJson, Overrides, RunFile, examples, folder, given_path, show


def _resumed(text: str) -> str:
    return text if text in ("auto", "never") else str(given_path(text))


@examples(
    "instar train run.yaml",
    "instar train run.yaml train.optimizer.lr=1e-4 --output runs/small",
    "instar train run.yaml --resume runs/small/checkpoint-500",
)
def train(
    run_file: RunFile,
    overrides: Overrides = None,
    resume: Annotated[
        str,
        typer.Option(
            parser=_resumed, metavar="auto|never|PATH", help="Go on from the newest whole checkpoint, or from this one."
        ),
    ] = "auto",
    output: Annotated[
        Path | None, typer.Option(parser=folder, metavar="FOLDER", help="The run folder; runs/<name> if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train what a run file describes; an interrupted run resumes where it stopped."""
    from instar.run.train import train as run

    show(run(run_file, overrides or (), resume=resume, output=output), as_json=as_json)
