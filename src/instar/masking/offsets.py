"""Where the characters of a corpus lie in the value arrays: one flat space, document after document.

Shape letters: N documents, T tokens.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CharacterOffsets:
    """The table document -> (first character, length) of one corpus, and what names the corpus.

    It depends on the texts only: two tokenizers of the same corpus share the value arrays.
    """

    first_N: Ints
    """(N+1,) first character of each document in the arrays, and the number of all."""
    fingerprint: str
    """Changes with the content of the corpus."""

    @classmethod
    def of(cls, lengths_N: NDArray[np.integer], content: str) -> "CharacterOffsets":
        """The offsets of documents of these many characters; `content` names what the texts are (a digest)."""
        first_N = np.zeros(len(lengths_N) + 1, dtype=np.int64)
        np.cumsum(lengths_N, out=first_N[1:])
        digest = hashlib.sha256(content.encode())
        digest.update(np.ascontiguousarray(first_N, dtype="<i8").data)
        return cls(first_N, digest.hexdigest())

    @property
    def num_characters(self) -> int:
        """Length of the value arrays."""
        return int(self.first_N[-1])

    def at(self, document: int, start: int = 0) -> int:
        """Index of a character of a document in the value arrays."""
        return int(self.first_N[document]) + start


@dataclass(frozen=True)
class Spans:
    """The characters of some tokens in the value arrays; a token that stands for none (a special) has the length 0."""

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
        positions = np.repeat(self.start_T - (ends_T - self.length_T), self.length_T)
        positions += _counting(1 << total.bit_length())[:total]
        return positions


@lru_cache(maxsize=2)
def _counting(size: int) -> Ints:
    """0, 1, 2, ... for reading only; kept, for the memory would cost more than the numbers."""
    numbers = np.arange(size)
    numbers.setflags(write=False)
    return numbers


def gathered(values: NDArray[np.generic], spans: Spans) -> NDArray[np.generic]:
    """The values of all characters of the spans, token after token, copied.

    Tokens that follow each other in the corpus, as in a sample, are copied as one block.
    """
    if not len(spans):
        return values[:0].copy()
    blocks = _blocks(spans, spans.start_T + spans.length_T)
    return values[spans.characters()] if blocks is None else np.concatenate([values[low:high] for low, high in blocks])


def _blocks(spans: Spans, ends_T: Ints) -> list[tuple[int, int]] | None:
    """(first, end) of each stretch in which tokens follow each other; None where these are too many to be worth it."""
    breaks = np.flatnonzero(spans.start_T[1:] != ends_T[:-1]) + 1
    if len(breaks) * 16 > len(spans):
        return None
    first = spans.start_T[np.concatenate([[0], breaks])].tolist()
    last = ends_T[np.concatenate([breaks - 1, [len(spans) - 1]])].tolist()
    return list(zip(first, last, strict=True))


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
    """Mean of each token's characters, where a table of 256 whole numbers says what each byte counts.

    A running sum in whole numbers is several times faster than a sum for each token, and exact, so no order of adding
    matters. Memory is kept from call to call, for what the system hands out anew costs more than the sums do. For one
    thread at a time.
    """

    def __init__(self, table: NDArray[np.int64], unit: int) -> None:
        """`unit` is the whole number that stands for 1; what a batch adds up to must fit 64 bits."""
        self._table = torch.from_numpy(table)
        self._unit = unit
        self._room(0, 0)

    def _room(self, num_characters: int, num_tokens: int) -> None:
        self._codes = torch.empty(num_characters, dtype=torch.int32)
        self._running = torch.zeros(num_characters + 1, dtype=torch.int64)
        self._ends = np.empty(num_tokens, dtype=np.int64)
        self._reached = np.zeros(num_tokens + 1, dtype=np.int64)

    def __call__(self, values: NDArray[Any], spans: Spans) -> NDArray[np.float64]:
        """(T,) mean of each token's numbers; NaN for a token without characters."""
        tokens, count = len(spans), spans.num_characters
        if not count:
            return np.full(tokens, np.nan)
        if len(self._codes) < count or len(self._ends) < tokens:
            self._room(count + count // 4, tokens + tokens // 4)
        codes, numbers = self._codes[:count], self._running[1 : count + 1]
        ends_T, reached = self._ends[:tokens], self._reached[: tokens + 1]
        self._gather(values, spans, ends_T, codes.numpy())
        torch.index_select(self._table, 0, codes, out=numbers)
        torch.cumsum(numbers, 0, out=numbers)
        np.cumsum(spans.length_T, out=ends_T)
        self._running.numpy().take(ends_T, out=reached[1:], mode="clip")
        np.subtract(reached[1:], reached[:-1], out=ends_T)
        means_T: NDArray[np.float64] = ends_T / self._unit
        with np.errstate(invalid="ignore"):
            means_T /= spans.length_T
        return means_T

    @staticmethod
    def _gather(values: NDArray[Any], spans: Spans, spare_T: Ints, into: NDArray[np.int32]) -> None:
        """Put the bytes of all characters, token after token, into `into`, what lies in one block as one."""
        np.add(spans.start_T, spans.length_T, out=spare_T)
        blocks = _blocks(spans, spare_T)
        if blocks is None:
            into[:] = values[spans.characters()]
            return
        at = 0
        for low, high in blocks:
            into[at : at + high - low] = values[low:high]
            at += high - low
