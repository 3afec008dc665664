"""`generate`: what a causal language model writes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from instar.config.load import load
from instar.core.files.disk import disk_errors
from instar.data.document import Document
from instar.data.source import ColumnSource
from instar.inference.decoding import Decoding
from instar.inference.generate import Generator, OnText
from instar.run.division import divided, division, must_be_alike
from instar.run.rows import Answers
from instar.run.saved import Ready
from instar.run.source import source_like
from instar.task import CausalLM
from instar.use.external import take_up_any
from instar.use.predict import allows_unknown, must_be_new
from instar.use.writing import must_be_text, write_rows

Log = Callable[[str], None]


def decoding_of(overrides: Sequence[str]) -> Decoding:
    """The values of `KEY=VALUE` words; ConfigError lists all that are wrong."""
    return load("{}", Decoding, overrides).value


def generator_of(ready: Ready, decoding: Decoding, log: Log) -> Generator:
    """What continues texts with a model."""
    shared = division()
    return Generator(
        network=ready.network,
        tokenizer=ready.tokenizer,
        device=ready.runtime.device,
        decoding=decoding,
        begin=() if ready.tokenizer.marks is None else ready.tokenizer.marks[0],
        end_ids=ready.end_ids,
        log=log if shared.is_main else lambda _: None,
        division=shared,
    )


def generate(
    checkpoint: Path, prompt: str, overrides: Sequence[str], *, log: Log, on_text: OnText | None = None
) -> dict[str, Any]:
    """How one prompt goes on: prompt, text, finish, tokens, ids; `on_text` gets the text as it comes.

    DataError for an empty prompt.
    """
    must_be_text(prompt, "the prompt")
    decoding = decoding_of(overrides)
    generator = generator_of(take_up_any(checkpoint, CausalLM), decoding, log)
    return {"prompt": prompt, **generator.stream(prompt, on_text or (lambda _: None))}


@divided
def generate_file(
    checkpoint: Path,
    *,
    input_file: Path,
    output: Path,
    overrides: Sequence[str],
    log: Log,
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """Write one JSON object a line, one for each prompt of the file, in order; returns what was done.

    The output is there whole or not at all. DataError if most tokens are unknown, unless `allow_unknown`.
    Processes divide the batches.
    """
    decoding = decoding_of(overrides)
    must_be_new(output)
    ready = take_up_any(checkpoint, CausalLM)
    must_be_alike(ready)
    known = ready.source
    source = source_like(known, input_file, labelled=False)
    after = known.between if isinstance(known, ColumnSource) and known.completion is not None else ""
    generator = generator_of(ready, decoding, log)
    allow_unknown = allow_unknown or allows_unknown(ready)
    answers = Answers(source, ready.tokenizer, generator.count, allow_unknown=allow_unknown)

    def prompt(document: Document) -> str:
        """The text as it stood before completions in training; one that is empty stays so."""
        return document.text + after if document.text else ""

    tokens = 0
    rows = answers.rows(generator.rows, prompt=prompt)
    with disk_errors(output):
        for row in write_rows(output, rows) if division().is_main else rows:
            tokens += row.get("tokens", 0)
    return {"output": str(output), **answers.facts(), "tokens": tokens}
