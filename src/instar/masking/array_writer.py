"""Changes of a store's files, made by writing: a full disk is an error, where a page of a mapped file is SIGBUS.

A file system that copies on write needs room even for bytes that a file has already, so reserving is not enough.
"""

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from instar.core.files.disk import disk_errors, write_all
from instar.core.files.plain import open_plain
from instar.masking.value_arrays import StoreSchema, ValueArrays

_PAGE = 4096
_MOST_PAGES = 1 << 14
"""Changed pages that are kept in memory: 64 MiB."""


class ArrayWriter:
    """Writes into the files of one store, which the caller holds; DiskError or OutputError where the disk refuses."""

    def __init__(self, folder: Path, schema: StoreSchema) -> None:
        self.folder, self.schema = folder, schema
        self._pages: dict[str, list[NDArray[np.int64]]] = {name: [] for name, _ in schema.all_channels()}
        self._num_pages = 0
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> "ArrayWriter":
        with ExitStack() as stack, disk_errors(self.folder):
            for name in self._pages:
                self._files[name] = stack.enter_context(open_plain(self.folder / f"{name}.bin", "r+b", buffering=0))
            self._arrays = ValueArrays(self.folder, self.schema)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._stack, disk_errors(self.folder):
            if kind is None:
                self._write_pages()
                for file in self._files.values():
                    os.fsync(file.fileno())
            del self._arrays  # its open files are given back, also where an error's traceback holds this

    def put(self, name: str, index_N: NDArray[np.int64], codes_N: NDArray[Any] | int) -> None:
        """Set characters anywhere in a channel; of equal ones the last counts."""
        array = self._arrays.arrays[name]
        array[index_N] = codes_N
        pages = np.unique(index_N * array.itemsize // _PAGE)
        self._pages[name].append(pages)
        self._num_pages += len(pages)
        if self._num_pages > _MOST_PAGES:
            with disk_errors(self.folder):
                self._write_pages()

    def put_from(self, name: str, first: int, codes_N: NDArray[Any]) -> None:
        """Set the characters from `first` on; not where `put` was before."""
        values = np.ascontiguousarray(codes_N, dtype=self._arrays.arrays[name].dtype)
        with disk_errors(self.folder):
            self._files[name].seek(first * values.itemsize)
            write_all(self._files[name], values.view(np.uint8).data)

    def _write_pages(self) -> None:
        for name, parts in self._pages.items():
            content = self._arrays.arrays[name].view(np.uint8)
            pages = np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
            for run in np.split(pages, np.flatnonzero(np.diff(pages) != 1) + 1) if len(pages) else ():
                start, end = int(run[0]) * _PAGE, (int(run[-1]) + 1) * _PAGE
                self._files[name].seek(start)
                write_all(self._files[name], content[start:end].data)
            parts.clear()
        self._num_pages = 0
        self._arrays = ValueArrays(self.folder, self.schema)  # the changed pages' memory is given back
