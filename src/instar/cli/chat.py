"""`instar chat`: talk with a causal language model."""

import json
import sys
from typing import Annotated

import typer

from instar.cli.options import AsJson, Checkpoint, Overrides, examples
from instar.core.errors import DataError


@examples(
    "instar chat runs/gpt/checkpoint-1000 temperature=0.8",
    "instar chat runs/gpt/checkpoint-1000 --json < lines.txt",
    "instar chat runs/complete/checkpoint-500 --template 'Question: {message} Answer:'",
)
def chat(
    checkpoint: Checkpoint,
    overrides: Overrides = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="Text of a turn; the model goes on after it. \\n is a line's end.")
    ] = "{message}\\n",
    as_json: AsJson = False,
) -> None:
    """Talk with a model, a line at a time; what was said before is kept. The end of the input ends the talk."""
    from instar.run.generate import Chat

    talk = Chat(checkpoint, overrides or (), template=template.replace("\\n", "\n"), tell=_tell)
    is_person = sys.stdin.isatty() and not as_json
    while True:
        if is_person:
            typer.echo("> ", nl=False, err=True)
        try:
            line = sys.stdin.readline()
        except UnicodeDecodeError as error:
            raise DataError(f"the input is not UTF-8 text: {error.reason}") from None
        if not line:
            return
        message = line.rstrip("\r\n")
        if not message.strip():
            continue
        said = talk.answer(message, _nothing if as_json else _write)
        typer.echo(json.dumps(said) if as_json else "")


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _write(text: str) -> None:
    typer.echo(text, nl=False)


def _nothing(text: str) -> None:
    del text
