"""What the blocks of the value files must be: a CRC each, so that a flipped bit is found.

A value file changes only when the journal is compacted, which renews the CRCs of the blocks that it touches; the
header names the file of CRCs that belongs to it, and that file's name is the CRC of its content. So header and CRCs
change at one moment.
"""

import errno
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors
from instar.core.files.durable import replace_bytes
from instar.core.files.plain import open_plain
from instar.masking.offsets import Spans

BLOCK = 1 << 20
"""Bytes of a file that share a CRC."""
_NAMES = ("checksums-{:08x}.bin", "seals-{:08x}.bin")
"""The name of the file of CRCs, and what it was called before."""
Sizes = Mapping[str, int]
"""Bytes of each channel's file, in order."""


class BlockChecksums:
    """The CRC of every block of every channel."""

    def __init__(self, blocks: Mapping[str, NDArray[np.uint32]]) -> None:
        self.blocks = dict(blocks)

    @classmethod
    def of_zeros(cls, sizes: Sizes) -> "BlockChecksums":
        """Of files that nobody wrote to."""
        whole = zlib.crc32(bytes(BLOCK))
        found = {}
        for name, size in sizes.items():
            found[name] = np.full(-(-size // BLOCK), whole, dtype=np.uint32)
            if size % BLOCK:
                found[name][-1] = zlib.crc32(bytes(size % BLOCK))
        return cls(found)

    @classmethod
    def of_files(cls, folder: Path, sizes: Sizes) -> "BlockChecksums":
        """Of files as they are."""
        checksums = cls({name: np.zeros(-(-size // BLOCK), dtype=np.uint32) for name, size in sizes.items()})
        checksums.renew(folder, {name: np.ones(len(crcs), dtype=np.bool_) for name, crcs in checksums.blocks.items()})
        return checksums

    @classmethod
    def read(cls, folder: Path, named: str, sizes: Sizes) -> "BlockChecksums":
        """Those that a header names; CheckpointError if they are damaged or gone."""
        path = folder / named
        content = path.read_bytes() if path.is_file() else b""
        counts = [-(-size // BLOCK) for size in sizes.values()]
        crc = zlib.crc32(content)
        if named not in [name.format(crc) for name in _NAMES] or len(content) != 4 * sum(counts):
            raise CheckpointError(
                f"{path}: is damaged or missing; take the store back from a copy, or begin in another folder"
            )
        parts = np.split(np.frombuffer(content, "<u4"), np.cumsum(counts)[:-1])
        return cls({name: part.astype(np.uint32) for name, part in zip(sizes, parts, strict=True)})

    def write(self, folder: Path) -> str:
        """Write them; returns the name that the header is to know them by."""
        content = b"".join(part.astype("<u4").tobytes() for part in self.blocks.values())
        name = _NAMES[0].format(zlib.crc32(content))
        with disk_errors(folder):
            replace_bytes(folder / name, content)
        return name

    def renew(self, folder: Path, touched: Mapping[str, NDArray[np.bool_]]) -> None:
        """Take the touched blocks as they now are."""
        for name, is_touched in touched.items():
            for block, found in _crcs(folder / f"{name}.bin", np.flatnonzero(is_touched).tolist()):
                self.blocks[name][block] = found

    def verify(self, folder: Path, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """CheckpointError names the first block that is not what was written there."""
        for name, wanted in self.blocks.items():
            path = folder / f"{name}.bin"
            for block, found in _crcs(path, range(len(wanted))):
                if is_given_up():
                    return
                if found != wanted[block]:
                    raise CheckpointError(
                        f"{path}: bytes {block * BLOCK:,} to {(block + 1) * BLOCK:,} are not what was written there "
                        "(their CRC does not fit): the disk has changed them; take the store back from a copy, or "
                        "begin in another folder (--output, or task.masking.store)"
                    )


def _crcs(path: Path, blocks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(block, CRC of it as it is in the file), in order."""
    with open_plain(path, buffering=0) as file:
        size, data = os.fstat(file.fileno()).st_size, 0
        for block in blocks:
            start, end = block * BLOCK, min(size, (block + 1) * BLOCK)
            if data < end:
                data = _data_from(file.fileno(), start, size)
            if data >= end:
                yield block, zlib.crc32(bytes(end - start))  # never written: a genome's store is mostly holes at first
                continue
            file.seek(start)
            yield block, zlib.crc32(file.read(BLOCK))


def _data_from(number: int, start: int, size: int) -> int:
    """Where a file's next written bytes lie; what is before them is holes."""
    try:
        return os.lseek(number, start, os.SEEK_DATA)
    except OSError as error:
        return size if error.errno == errno.ENXIO else start  # none at all; or the disk does not tell


def drop_old(folder: Path, kept: str) -> None:
    """Delete all files of CRCs but one."""
    with disk_errors(folder):
        for name in _NAMES:
            for path in folder.glob(name.replace("{:08x}", "*")):
                if path.name != kept:
                    path.unlink()


def blocks_of(spans: Spans, item_size: int, count: int) -> NDArray[np.bool_]:
    """(count,) which blocks the characters of the spans lie in, at so many bytes each."""
    filled = spans.length_T > 0
    first = spans.start_T[filled] * item_size // BLOCK
    last = ((spans.start_T[filled] + spans.length_T[filled]) * item_size - 1) // BLOCK
    steps: NDArray[Any] = np.bincount(first, minlength=count + 1) - np.bincount(last + 1, minlength=count + 1)
    found: NDArray[np.bool_] = np.cumsum(steps[:count]) > 0
    return found


class Check:
    """Verifies in a thread of its own, so that nobody waits for a genome's file to be read."""

    def __init__(self, checksums: BlockChecksums, folder: Path) -> None:
        self._checksums, self._folder = checksums, folder
        self._error: BaseException | None = None
        self._is_given_up = threading.Event()
        self._thread = threading.Thread(target=self._work, name="masking arrays check", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._checksums.verify(self._folder, self._is_given_up.is_set)
        except BaseException as error:  # noqa: BLE001 - raised where training runs
            self._error = error

    def so_far(self) -> None:
        """Raise what was found until now; waits for nothing."""
        if self._error is not None:
            raise self._error

    def whole(self) -> None:
        """Wait until all was looked at; raise what was found."""
        self._thread.join()
        self.so_far()

    def give_up(self) -> None:
        """End the thread after the block that it looks at."""
        self._is_given_up.set()
        self._thread.join()
