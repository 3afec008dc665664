"""The characters of a corpus in one memory-mapped file, for samples that are cut and tokenised anew in each pass."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.core.temporary import remove, remove_leftovers, unique_name
from instar.data.source.base import SourceBase

Ints = NDArray[np.int64]
_NARROW, _WIDE = np.dtype("u1"), np.dtype("<u4")


class Texts:
    """The text of any piece of any document; case is kept."""

    def __init__(self, characters: NDArray[Any], first_N: Ints) -> None:
        """Code points of all documents, and the place of each document's first."""
        self._characters, self._first_N = characters, first_N
        self._encoding = "latin-1" if characters.dtype == _NARROW else "utf-32-le"

    def piece(self, document: int, start: int, end: int) -> str:
        """Characters `start` to `end` (not included) of a document."""
        first = int(self._first_N[document])
        return self._characters[first + start : first + end].tobytes().decode(self._encoding)


def build_texts(source: SourceBase, first_N: Ints, folder: Path, name: str) -> Texts:
    """The texts of a source, kept below `folder` as `name`; made once, complete or absent.

    `first_N` (N+1) is where the cache's documents begin: one that it left out is left out here. DataError if the
    source's documents are others by now.
    """
    for dtype in (_NARROW, _WIDE):
        final = folder / f"{name}.text{dtype.itemsize}"
        size = int(first_N[-1]) * dtype.itemsize
        if final.is_file() and final.stat().st_size == size:
            return Texts(np.memmap(final, dtype=dtype, mode="r"), first_N)
    dtype = _NARROW if all(_is_narrow(text) for text in _kept(source, first_N)) else _WIDE
    final = folder / f"{name}.text{dtype.itemsize}"
    remove_leftovers(final)
    temporary = unique_name(final)
    try:
        with temporary.open("xb") as file:
            for text in _kept(source, first_N):
                file.write(text.encode("latin-1" if dtype == _NARROW else "utf-32-le"))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(final)
    finally:
        remove(temporary)
    return Texts(np.memmap(final, dtype=dtype, mode="r"), first_N)


def _kept(source: SourceBase, first_N: Ints) -> Iterator[str]:
    lengths = np.diff(first_N)
    number = 0
    for document in source.documents():
        if source.is_labelled and document.label is None:
            continue
        if number < len(lengths) and document.text.strip() and len(document.text) == lengths[number]:
            number += 1
            yield document.text
    if number != len(lengths):
        raise DataError(f"{source.files()[0]}: has {number:,} of the {len(lengths):,} documents that were tokenised")


def _is_narrow(text: str) -> bool:
    return text.isascii() or max(text) < "\u0100"
