"""What the tokenizers that are trained on the data share."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from instar.config import Config
from instar.core.errors import DataError
from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.fast import FastCodec

Texts = Callable[[], Iterator[str]]
"""Gives the texts anew each time."""
_PIECE = 1 << 16


class Made(Config):
    """A tokenizer that instar makes: tokens 0 to 4 are [PAD] [UNK] [CLS] [SEP] [MASK]."""

    end_of_text: str | None = Field(default=None, pattern=r"^[<\[].*[A-Za-z0-9].*[>\]]$")
    """A token of its own (number 5) that begins and ends a text, such as <|endoftext|>; none: [CLS] and [SEP] do."""


class Trained(Made):
    """A tokenizer that learns its words from the data."""

    vocab_size: int = Field(default=8192, ge=32, le=1 << 20)
    """Words at most, special tokens included."""
    sample: int = Field(default=200_000_000, ge=1)
    """Characters that it learns from: the first ones of the data."""

    def finish(self, backend: Any) -> Tokenizer:
        """The tokenizer of a trained backend, special tokens declared."""
        tokens, specials = trained_specials(self.end_of_text)
        backend.add_special_tokens(tokens)
        return Tokenizer(FastCodec(backend.to_str()), specials)


def read_sample(texts: Texts, characters: int) -> Iterator[str]:
    """Texts until `characters` were given; long ones in pieces. DataError where there are none."""
    left = characters
    for text in texts():
        for start in range(0, len(text), _PIECE):
            yield text[start : min(start + _PIECE, start + left)]
            left -= min(_PIECE, len(text) - start)
            if left <= 0:
                return
    if left == characters:
        raise DataError("no text to make a tokenizer from: every document is empty")


def train(config: Trained, backend: Any, trainer: Any, texts: Texts) -> Tokenizer:
    """Train in one thread: with several the library adds in an order of its own."""
    with _one_thread():
        backend.train_from_iterator(read_sample(texts, config.sample), trainer=trainer)
    return config.finish(backend)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
