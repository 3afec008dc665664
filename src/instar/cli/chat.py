"""`instar chat`: a conversation with a causal language model."""

import json
import sys
from typing import Annotated

import typer

from instar.cli.options import AsJson, Model, Overrides, examples
from instar.core.errors import DataError


@examples(
    "instar chat runs/gpt/checkpoint-1000 temperature=0.8",
    "instar chat runs/gpt/checkpoint-1000 --json < lines.txt",
    "instar chat runs/complete/checkpoint-500 --template 'Question: {message} Answer:'",
    "instar chat models/smollm2-instruct --system 'Answer in one sentence.' temperature=0.7",
)
def chat(
    checkpoint: Model,
    overrides: Overrides = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Text of a turn, {message} in it; the model continues from it. \\n is a line's end. If not given: the "
            "tokenizer's own chat template, or else the message and a line's end.",
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System message; for chat templates.")] = None,
    as_json: AsJson = False,
) -> None:
    """Talk with a model, a line at a time; the conversation so far is kept. The end of the input ends it."""
    from instar.use.chat import Chat

    spelt = None if template is None else template.replace("\\n", "\n")
    conversation = Chat(checkpoint, overrides or (), template=spelt, system=system, log=_log)
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
        try:
            reply = conversation.answer(message, _nothing if as_json else _write)
        except DataError as error:
            if not is_person:
                raise
            _log(str(error))  # the next message may be better
            continue
        typer.echo(json.dumps(reply) if as_json else "")


def _log(line: str) -> None:
    typer.echo(line, err=True)


def _write(text: str) -> None:
    typer.echo(text, nl=False)


def _nothing(text: str) -> None:
    del text
