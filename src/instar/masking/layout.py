"""Where the characters of a corpus lie in a plane: one flat space, document after document.

Shape letters: N documents, T tokens.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """The table document -> (first character, length) of one corpus, and what names the corpus.

    It depends on the texts only: two tokenizers of the same corpus share a plane.
    """

    first_N: Ints
    """(N+1,) first character of each document in the plane, and the number of all."""
    fingerprint: str
    """Changes with the content of the corpus."""

    @classmethod
    def of(cls, lengths_N: NDArray[np.integer], content: str) -> "Layout":
        """The layout of documents of these many characters; `content` names what the texts are (a digest)."""
        first_N = np.zeros(len(lengths_N) + 1, dtype=np.int64)
        np.cumsum(lengths_N, out=first_N[1:])
        digest = hashlib.sha256(content.encode())
        digest.update(np.ascontiguousarray(first_N, dtype="<i8").data)
        return cls(first_N, digest.hexdigest())

    @property
    def num_characters(self) -> int:
        """Length of a plane."""
        return int(self.first_N[-1])

    def place(self, document: int, start: int = 0) -> int:
        """Where a character of a document lies in the plane."""
        return int(self.first_N[document]) + start


@dataclass(frozen=True)
class Spans:
    """The characters of some tokens in a plane; a token that stands for none (a special) has the length 0."""

    start_T: Ints
    length_T: Ints

    def __len__(self) -> int:
        return len(self.start_T)

    def __getitem__(self, chosen: NDArray[np.generic] | slice) -> "Spans":
        return Spans(self.start_T[chosen], self.length_T[chosen])

    @property
    def num_characters(self) -> int:
        """Characters of all the tokens, each as often as it is named."""
        return int(self.length_T.sum())

    def characters(self) -> Ints:
        """The place of every character, token after token; no loop over tokens."""
        ends_T = np.cumsum(self.length_T)
        total = int(ends_T[-1]) if len(ends_T) else 0
        places = np.repeat(self.start_T - (ends_T - self.length_T), self.length_T)
        places += np.arange(total)
        return places


def gathered(values: NDArray[np.generic], spans: Spans) -> NDArray[np.generic]:
    """The values of all characters of the spans, token after token, copied.

    Tokens that follow each other in the corpus, as in a sample, are copied as one piece.
    """
    if not len(spans):
        return values[:0].copy()
    ends_T = spans.start_T + spans.length_T
    breaks = np.flatnonzero(spans.start_T[1:] != ends_T[:-1]) + 1
    if len(breaks) * 16 > len(spans):
        return values[spans.characters()]
    first = spans.start_T[np.concatenate([[0], breaks])].tolist()
    last = ends_T[np.concatenate([breaks - 1, [len(spans) - 1]])].tolist()
    return np.concatenate([values[low:high] for low, high in zip(first, last, strict=True)])


def token_means(values: NDArray[np.float32], length_T: Ints) -> NDArray[np.float64]:
    """Mean of each token's values, which lie one token after the other; NaN for a token without characters."""
    means_T = np.full(len(length_T), np.nan)
    filled = np.flatnonzero(length_T)
    lengths = length_T[filled]
    if len(filled) == len(values):  # a character each
        means_T[filled] = values
    elif len(filled):
        starts = np.cumsum(lengths) - lengths
        means_T[filled] = np.add.reduceat(values, starts) / lengths
    return means_T


class CodedMeans:
    """`token_means` of what a table of 256 whole numbers says of each byte; exact, so no order of adding matters.

    A running sum in whole numbers is several times faster than a sum for each token, and memory that is kept from call
    to call several times faster than memory that the system hands out anew. For one thread at a time.
    """

    def __init__(self, table: NDArray[np.int64], unit: int) -> None:
        """`unit` is the whole number that stands for 1."""
        self._table = torch.from_numpy(table)
        self._unit = unit
        self._room(0, 0)

    def _room(self, num_characters: int, num_tokens: int) -> None:
        self._places = torch.empty(num_characters, dtype=torch.int32)
        self._running = torch.zeros(num_characters + 1, dtype=torch.int64)
        self._ends = np.empty(num_tokens, dtype=np.int64)
        self._reached = np.zeros(num_tokens + 1, dtype=np.int64)

    def __call__(self, codes: NDArray[Any], length_T: Ints) -> NDArray[np.float64]:
        """(T,) mean of each token's numbers; NaN for a token without characters."""
        count, tokens = len(codes), len(length_T)
        if not count:
            return np.full(tokens, np.nan)
        if len(self._places) < count or len(self._ends) < tokens:
            self._room(count + count // 4, tokens + tokens // 4)
        places, numbers = self._places[:count], self._running[1 : count + 1]
        places.copy_(torch.from_numpy(codes))
        torch.index_select(self._table, 0, places, out=numbers)
        torch.cumsum(numbers, 0, out=numbers)
        ends_T, reached = self._ends[:tokens], self._reached[: tokens + 1]
        np.cumsum(length_T, out=ends_T)
        self._running.numpy().take(ends_T, out=reached[1:], mode="clip")
        means_T = np.empty(tokens)
        np.subtract(reached[1:], reached[:-1], out=means_T)
        means_T /= self._unit
        with np.errstate(invalid="ignore"):
            means_T /= length_T
        return means_T
