"""`generate` and `chat`: what a causal language model writes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from instar.checkpoint.disk import disk_errors
from instar.config.load import load
from instar.core.errors import UsageError
from instar.data.source import ColumnSource, Source
from instar.inference.decoding import Decoding
from instar.inference.generate import Generator, OnText
from instar.run.predict import must_be_new
from instar.run.saved import Saved, take_up
from instar.run.source import source_like
from instar.run.writing import must_be_text, write_rows

Tell = Callable[[str], None]


def decoding_of(overrides: Sequence[str]) -> Decoding:
    """The values of `KEY=VALUE` words; ConfigError lists all that are wrong."""
    return load("{}", Decoding, overrides).value


def generator_of(saved: Saved, decoding: Decoding, tell: Tell) -> Generator:
    """What continues texts with a checkpoint; UsageError where its task writes none."""
    if saved.task.head != "causal_lm":
        raise UsageError(
            f"{saved.folder}: its task is {saved.config.task.kind}, which writes no text; wanted a causal_lm checkpoint"
        )
    return Generator(
        network=saved.network,
        tokenizer=saved.tokenizer,
        device=saved.runtime.device,
        decoding=decoding,
        tell=tell,
    )


def generate(
    checkpoint: Path, prompt: str, overrides: Sequence[str], *, tell: Tell, on_text: OnText | None = None
) -> dict[str, Any]:
    """How one prompt goes on: prompt, text, finish, tokens, ids; `on_text` gets the text as it comes.

    DataError for an empty prompt.
    """
    must_be_text(prompt, "the prompt")
    decoding = decoding_of(overrides)
    generator = generator_of(take_up(checkpoint), decoding, tell)
    return {"prompt": prompt, **generator.stream(prompt, on_text or (lambda _: None))}


def generate_file(
    checkpoint: Path, *, input_file: Path, output: Path, overrides: Sequence[str], tell: Tell
) -> dict[str, Any]:
    """Write one JSON object a line, one for each prompt of the file, in order; returns what was done.

    The output is there whole or not at all.
    """
    decoding = decoding_of(overrides)
    must_be_new(output)
    saved = take_up(checkpoint)
    known = saved.config.data.train
    source = source_like(known, input_file, labelled=False)
    after = known.between if isinstance(known, ColumnSource) and known.completion is not None else ""
    generator = generator_of(saved, decoding, tell)
    counts = {"rows": 0, "skipped": 0, "truncated": 0, "tokens": 0}
    with disk_errors(output):
        written = write_rows(output, generator.rows(_prompts(source, after)))
        for row in written:
            counts["rows"] += 1
            counts["skipped"] += "skipped" in row
            counts["truncated"] += "truncated" in row
            counts["tokens"] += row.get("tokens", 0)
    return {"output": str(output), **counts}


def _prompts(source: Source, after: str) -> Iterator[str]:
    """The texts as they stood before completions in training; one that is empty stays so."""
    for document in source.documents():
        yield document.text + after if document.text else ""


class Chat:
    """A talk: what was said so far is the prompt of the next answer; its beginning is cut off where it is too long."""

    def __init__(self, checkpoint: Path, overrides: Sequence[str], *, template: str, tell: Tell) -> None:
        """`template` is the text of a turn, with {message} where the person's words go; the answer follows it."""
        if "{message}" not in template:
            raise UsageError(f"--template: wanted a text with {{message}} in it; got {template!r}")
        self._generator = generator_of(take_up(checkpoint), decoding_of(overrides), tell)
        self._template = template
        self.history = ""

    def answer(self, message: str, on_text: OnText) -> dict[str, Any]:
        """What the model says to a message, handed out as it is written, and kept as part of the talk."""
        must_be_text(message, "the message")
        prompt = self.history + self._template.replace("{message}", message)
        row = self._generator.stream(prompt, on_text, number=self.history.count("\n"))
        self.history = f"{prompt}{row['text']}\n"
        return {"message": message, **row}
