"""The characters of a corpus in one memory-mapped column, for samples that are cut and tokenised again in each pass."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.core.files.disk import disk_errors
from instar.core.files.temporary import courtesy_lock, publish_unless_whole, remove, remove_leftovers, unique_name
from instar.data.columns import ColumnFolder, read_columns
from instar.data.source.base import SourceBase

Ints = NDArray[np.int64]
_COLUMN = "characters"
_NARROW, _WIDE = np.dtype("u1"), np.dtype("<u4")


class Texts:
    """The text of any part of any document; case is kept."""

    def __init__(self, characters: NDArray[Any], first_N: Ints) -> None:
        """Code points of all documents, and the index of each document's first."""
        self._characters, self._first_N = characters, first_N
        self._encoding = "latin-1" if characters.dtype == _NARROW else "utf-32-le"

    def part(self, document: int, start: int, end: int) -> str:
        """Characters `start` to `end` (not included) of a document."""
        first = int(self._first_N[document])
        return self._characters[first + start : first + end].tobytes().decode(self._encoding)


def build_texts(source: SourceBase, first_N: Ints, folder: Path, name: str) -> Texts:
    """The texts of a source, kept below `folder` as `name`; made once, complete or absent.

    `first_N` (N+1) is where the cache's documents begin: one that it left out is left out here. DataError if the
    source's documents are others by now.
    """
    final = folder / f"{name}.text"
    num_characters = int(first_N[-1])
    with disk_errors(final), courtesy_lock(final):
        remove_leftovers(final)
        if final.is_dir():
            try:
                return Texts(_characters(final, num_characters), first_N)
            except DataError as error:
                warnings.warn(f"{error}; the texts are written again", stacklevel=2)
        temporary = unique_name(final)
        try:
            temporary.mkdir()
            _write(temporary, source, first_N)
            publish_unless_whole(temporary, final, lambda path: _is_whole(path, num_characters))
        finally:
            remove(temporary)
    return Texts(_characters(final, num_characters), first_N)


def _characters(folder: Path, count: int) -> NDArray[Any]:
    """DataError unless the folder holds that many characters, and they are what was written."""
    characters = read_columns(folder)[1].get(_COLUMN)
    if characters is None or len(characters) != count:
        raise DataError(f"{folder}: does not hold the {count:,} characters of the corpus")
    return characters


def _is_whole(folder: Path, count: int) -> bool:
    try:
        _characters(folder, count)
    except DataError:
        return False
    return True


def _write(folder: Path, source: SourceBase, first_N: Ints) -> None:
    dtype = _NARROW if all(_is_narrow(text) for text in _kept(source, first_N)) else _WIDE
    columns = ColumnFolder(folder)
    try:
        column = columns.column(_COLUMN, dtype.str)
        for text in _kept(source, first_N):
            encoded = text.encode("latin-1" if dtype == _NARROW else "utf-32-le")
            column.append(np.frombuffer(encoded, dtype=dtype))
        columns.seal({})
    finally:
        columns.abandon()


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
