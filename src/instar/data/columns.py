"""Flat arrays on disk: raw little-endian numbers, described and sealed by one JSON file."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.core.files.checksum import with_checksum, without_checksum
from instar.core.limits import raise_if_limited

INDEX = "index.json"
HASHED_BYTES = 2 << 30
"""A folder up to this size is hashed when it is opened; of a larger one only sizes are checked."""
_DTYPES = frozenset({"<u2", "<u4", "<i4", "<i8", "<f4", "|u1", "|b1"})


class Column:
    """One array that grows at its end."""

    def __init__(self, folder: Path, name: str, dtype: str) -> None:
        self.name, self.dtype, self.count = name, np.dtype(dtype), 0
        self.path = folder / f"{name}.bin"
        self._hash = hashlib.sha256()
        self._file = self.path.open("wb")

    def append(self, values: NDArray[Any]) -> None:
        """Add values at the end, cast to the column's type."""
        data = np.ascontiguousarray(values, dtype=self.dtype)
        self._file.write(data.data)
        self._hash.update(data.data)
        self.count += data.size

    def close(self) -> dict[str, Any]:
        """Flush to the disk; returns the entry for the index."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {
            "dtype": self.dtype.str,
            "count": self.count,
            "bytes": self.count * self.dtype.itemsize,
            "sha256": self._hash.hexdigest(),
        }

    def abandon(self) -> None:
        """Close without a promise."""
        self._file.close()


class ColumnFolder:
    """A folder of columns that is being written; complete once `seal` has returned."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._columns: dict[str, Column] = {}

    def column(self, name: str, dtype: str) -> Column:
        """Open a new column."""
        self._columns[name] = Column(self.folder, name, dtype)
        return self._columns[name]

    def close(self, name: str) -> dict[str, Any]:
        """Finish one column early; it is no part of the index unless the caller puts its entry there."""
        return self._columns.pop(name).close()

    def seal(self, facts: dict[str, Any]) -> None:
        """Close every column, then write the index with `facts` and its checksum, all of it flushed to the disk."""
        columns = {name: self._columns[name].close() for name in list(self._columns)}
        self._columns.clear()
        text = json.dumps(with_checksum({**facts, "columns": columns}), ensure_ascii=False, indent=1)
        with (self.folder / INDEX).open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def abandon(self) -> None:
        """Close what is open."""
        for column in self._columns.values():
            column.abandon()


def read_columns(folder: Path, *, full: bool | None = None) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(facts, name to memory-mapped read-only array); DataError that names the damaged file and the reason.

    Sizes are always checked; hashes where `full`, by default up to HASHED_BYTES in all.
    """
    path = folder / INDEX
    try:
        facts = without_checksum(json.loads(path.read_text(encoding="utf-8")))
        columns = facts.pop("columns")
        total = sum(int(entry["bytes"]) for entry in columns.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise_if_limited(error)
        raise DataError(f"{path}: damaged ({error})") from error
    hashed = total <= HASHED_BYTES if full is None else full
    return facts, {name: _mapped(folder, name, entry, hashed) for name, entry in columns.items()}


def _mapped(folder: Path, name: str, entry: dict[str, Any], hashed: bool) -> NDArray[Any]:  # noqa: FBT001 (private)
    path = folder / f"{name}.bin"
    if not name.isidentifier() or entry.get("dtype") not in _DTYPES:
        raise DataError(f"{folder / INDEX}: damaged (column {name!r})")
    dtype = np.dtype(entry["dtype"])
    size = path.stat().st_size if path.is_file() and not path.is_symlink() else -1
    if size != entry.get("bytes") or size != entry.get("count", -1) * dtype.itemsize:
        raise DataError(f"{path}: {'missing' if size < 0 else f'has {size} bytes'}; wanted {entry.get('bytes')} bytes")
    if hashed:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != entry.get("sha256"):
            raise DataError(f"{path}: its content changed after it was written (SHA-256 differs)")
    if size == 0:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
