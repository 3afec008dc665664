"""Which parts of which documents belong to a set of samples, and how some are held out.

Letters: N documents of a cache, S segments of a set, I segments asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.core.seeds import derive, uniform
from instar.data.permutation import permute

Ints = NDArray[np.int64]

ENOUGH_DOCUMENTS = 10
"""Whole documents are held out where at least this many would be, and none is large."""
BLOCKS = 8
"""Blocks held out of one long document, at most."""


class Segments(Protocol):
    """A list of (document, first token, end token), none of which overlap."""

    def __len__(self) -> int: ...

    def bounds(self, index_I: Ints) -> tuple[Ints, Ints, Ints]:
        """(document, first, end) of some segments; tokens are counted within the document."""
        ...


@dataclass(frozen=True)
class Documents:
    """Whole documents: all of them in order, or a share of a keyed permutation (constant memory)."""

    offsets: Ints
    first: int
    count: int
    key: int | None = None
    drawn_from: tuple[int, int] | None = None
    """First and end of the documents that `key` permutes; None: all."""

    def __len__(self) -> int:
        return self.count

    def bounds(self, index_I: Ints) -> tuple[Ints, Ints, Ints]:
        document_I = index_I + self.first
        if self.key is not None:
            low, high = self.drawn_from or (0, len(self.offsets) - 1)
            document_I = low + permute(document_I - low, high - low, self.key)
        length_I = self.offsets[document_I + 1] - self.offsets[document_I]
        return document_I, np.zeros_like(document_I), length_I


@dataclass(frozen=True)
class Blocks:
    """Parts of documents, listed."""

    document_S: Ints
    first_S: Ints
    end_S: Ints

    def __len__(self) -> int:
        return len(self.document_S)

    def bounds(self, index_I: Ints) -> tuple[Ints, Ints, Ints]:
        return self.document_S[index_I], self.first_S[index_I], self.end_S[index_I]


def split_documents(documents: Documents, fraction: float, seed: int) -> tuple[Documents, Documents]:
    """(rest, held out): a keyed share of the whole documents, at least one of each."""
    if documents.count < 2:
        raise DataError(
            "there is one document only, so none can be held out whole; "
            "cut it into windows (data.too_long: window), or name a file for data.eval"
        )
    held = min(max(1, round(fraction * documents.count)), documents.count - 1)
    key = derive(seed, "split") if documents.key is None else documents.key
    drawn_from = documents.drawn_from
    if documents.key is None and documents.count < len(documents.offsets) - 1:
        drawn_from = (documents.first, documents.first + documents.count)
    out = replace(documents, count=held, key=key, drawn_from=drawn_from)
    rest = replace(out, first=documents.first + held, count=documents.count - held)
    return rest, out


def split_parts(pairs: Sequence[tuple[Segments, Segments]]) -> tuple["Blocks", "Blocks"]:
    """(rest, held out) of several parts, listed part after part."""
    rest, held = zip(*pairs, strict=True)
    return _listed(rest), _listed(held)


def _listed(parts: Sequence[Segments]) -> "Blocks":
    found = [part.bounds(np.arange(len(part), dtype=np.int64)) for part in parts]
    document_S, first_S, end_S = (np.concatenate(column) for column in zip(*found, strict=True))
    return Blocks(document_S, first_S, end_S)


def split_blocks(segments: Segments, fraction: float, seed: int, window: int) -> tuple[Blocks, Blocks]:
    """(rest, held out): up to BLOCKS contiguous blocks of each segment, at positions drawn by `seed`.

    A segment is cut into equal parts, as many as leave each block a window long (one part at
    least); each part holds out `fraction` of its tokens. Segments that would give less than
    a sixteenth of a window stay whole in the rest. The two sides share no token.
    """
    document_S, first_S, end_S = segments.bounds(np.arange(len(segments), dtype=np.int64))
    length_S = end_S - first_S
    held_S = length_S * fraction
    parts_S = np.where(held_S * 16 < window, 0, np.clip(held_S // window, 1, BLOCKS)).astype(np.int64)
    if not parts_S.any():
        raise DataError("there is too little data to hold some of it out; name a file for `eval`, or hold out more")
    segment_P = np.repeat(np.arange(len(length_S)), parts_S)
    number_P = np.arange(len(segment_P)) - np.repeat(np.cumsum(parts_S) - parts_S, parts_S)
    low_P = first_S[segment_P] + length_S[segment_P] * number_P // parts_S[segment_P]
    high_P = first_S[segment_P] + length_S[segment_P] * (number_P + 1) // parts_S[segment_P]
    size_P = np.maximum(1, np.round((high_P - low_P) * fraction).astype(np.int64))
    draw_P = uniform(derive(seed, "split"), document_S[segment_P], low_P)
    at_P = low_P + (draw_P * (high_P - low_P - size_P + 1)).astype(np.int64)
    out = Blocks(document_S[segment_P], at_P, at_P + size_P)
    return _rest(document_S, first_S, end_S, segment_P, out), out


def _rest(document_S: Ints, first_S: Ints, end_S: Ints, segment_P: Ints, out: Blocks) -> Blocks:
    """What lies before, between and after the blocks of each segment, in order."""
    segment = np.concatenate([np.arange(len(document_S)), segment_P])
    first = np.concatenate([first_S, out.end_S])
    order = np.lexsort((first, segment))
    segment, first = segment[order], first[order]
    end = np.empty_like(first)
    block_ends = np.concatenate([out.first_S, end_S])
    block_segment = np.concatenate([segment_P, np.arange(len(document_S))])
    end[:] = block_ends[np.lexsort((block_ends, block_segment))]
    kept = end > first
    return Blocks(document_S[segment[kept]], first[kept], end[kept])
