"""2bit files, as the UCSC genome browser keeps assemblies: two bits a base, with lists of N and of lower case.

Source: https://genome.ucsc.edu/FAQ/FAQformat.html#format7 (version 0, and version 1 with offsets of 64 bits; either
byte order). Shape letters: S sequences, K blocks of one list, B bases of a chunk.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.genome.fasta import Chunk, Fault

SIGNATURE = 0x1A412743
STARTS = (struct.pack("<I", SIGNATURE), struct.pack(">I", SIGNATURE))
"""First bytes of a file in either byte order."""
_CHUNK = 1 << 20
"""Bases of a chunk; a multiple of four."""
_LETTERS = np.frombuffer(b"TCAG", dtype=np.uint8)
_TABLE = _LETTERS[(np.arange(256)[:, None] >> np.array([6, 4, 2, 0])) & 3]
"""(256, 4) the bases of a byte; the first base lies in its highest bits."""
_LOWER = np.uint8(0x20)

Uints = NDArray[np.uint32]


def read_chunks(file: IO[bytes], size: int, path: str, fault: Fault) -> Iterator[Chunk]:
    """The bases of each sequence of a file of `size` bytes, in the order of its index, in bounded memory.

    A chunk's `line` is the number of its sequence, from 1. What is wrong with a sequence goes to
    `fault(number, text)`: no name or one that came before, no bases, what lies beyond the end of the file, lists that
    are not ascending. DataError for a file that is no 2bit file, is cut short, or names more bases than it holds.
    """
    reader = _Reader(file, size, path)
    seen: set[str] = set()
    packed = 0
    for number, (name, offset) in enumerate(reader.index(), 1):
        if not name or name in seen:
            fault(
                number, f"the name '{name}' came before; every sequence needs a name of its own" if name else "no name"
            )
        seen.add(name)
        try:
            record = reader.record(offset)
        except ValueError as error:
            fault(number, f"sequence '{name}': {error}")
            continue
        packed += record.num_bytes
        if packed > size:
            raise DataError(f"{path}: sequence '{name}' shares its bytes with others; the file is damaged")
        if record.size == 0:
            fault(number, f"sequence '{name}' has no bases")
        for start in range(0, record.size, _CHUNK):
            yield Chunk(name, number, start, reader.bases(record, start, min(record.size, start + _CHUNK)))
        if record.size:
            yield Chunk(name, number, record.size, b"")


@dataclass(frozen=True)
class _Record:
    """Where a sequence lies in the file, and which of its bases are N or lower case."""

    size: int
    """Bases."""
    first_byte: int
    """Where its packed bases begin."""
    num_bytes: int
    """Bytes of the record."""
    unknown: tuple[Uints, Uints]
    """(K,) starts and (K,) ends of the runs of N, ascending."""
    lower: tuple[Uints, Uints]


class _Reader:
    """Reads parts of one file; ValueError where a part does not fit into it."""

    def __init__(self, file: IO[bytes], size: int, path: str) -> None:
        self._file, self._size, self._path = file, size, path
        start = file.read(16)
        if start[:2] == b"\x1f\x8b":
            raise DataError(
                f"{path}: is packed with gzip, and a 2bit file is read from many positions; unpack it first"
            )
        if start[:4] not in STARTS:
            raise DataError(f"{path}: is no 2bit file (its first four bytes are none of one); a FASTA is kind: fasta")
        self._order = "<" if start[:4] == STARTS[0] else ">"
        if len(start) < 16:
            raise self._damaged("it ends within its header")
        _, version, self._count, _ = struct.unpack(self._order + "4I", start)
        if version > 1:
            raise DataError(f"{path}: is a 2bit file of version {version}; versions 0 and 1 are read")
        self._offset = struct.Struct(self._order + ("Q" if version else "I"))

    def index(self) -> Iterator[tuple[str, int]]:
        """Name and offset of each sequence, in order."""
        if self._count * (1 + self._offset.size) > self._size - 16:
            raise self._damaged(f"it names {self._count:,} sequences, more than its {self._size:,} bytes hold")
        at = 16
        for _ in range(self._count):
            self._file.seek(at)
            length = self._file.read(1)
            entry = self._file.read(length[0] + self._offset.size) if length else b""
            if not length or len(entry) < length[0] + self._offset.size:
                raise self._damaged("it ends within its index")
            (offset,) = self._offset.unpack(entry[length[0] :])
            yield entry[: length[0]].decode("utf-8", "replace"), offset
            at += 1 + len(entry)

    def record(self, offset: int) -> _Record:
        """The sequence that begins at a byte of the file."""
        if offset >= self._size:
            raise ValueError(f"begins at byte {offset:,}, and the file has {self._size:,}")
        self._file.seek(offset)
        (size,) = self._numbers(1)
        unknown = self._blocks(int(size), "N")
        lower = self._blocks(int(size), "lower case")
        self._numbers(1)  # reserved
        first, num_packed = self._file.tell(), (int(size) + 3) // 4
        if first + num_packed > self._size:
            raise ValueError(f"has {size:,} bases, which end beyond the {self._size:,} bytes of the file")
        return _Record(int(size), first, first + num_packed - offset, unknown, lower)

    def bases(self, record: _Record, start: int, end: int) -> bytes:
        """Bases `start` to `end` of a sequence; `start` is a multiple of four."""
        self._file.seek(record.first_byte + start // 4)
        packed = np.frombuffer(self._file.read((end - start + 3) // 4), dtype=np.uint8)
        if len(packed) < (end - start + 3) // 4:
            raise self._damaged("it became shorter while it was read")
        bases_B = _TABLE[packed].reshape(-1)[: end - start]
        bases_B[_inside(record.unknown, start, end)] = ord("N")
        bases_B[_inside(record.lower, start, end)] |= _LOWER
        content: bytes = bases_B.tobytes()
        return content

    def _blocks(self, size: int, what: str) -> tuple[Uints, Uints]:
        """Starts and ends of a list of blocks: counts, then all starts, then all lengths."""
        (count,) = self._numbers(1)
        if int(count) * 8 > self._size - self._file.tell():
            raise ValueError(f"has {count:,} blocks of {what}, more than the file holds")
        starts_K, lengths_K = self._numbers(int(count)).astype(np.int64), self._numbers(int(count)).astype(np.int64)
        ends_K = starts_K + lengths_K
        if len(ends_K) and (ends_K.max() > size or (starts_K[1:] < ends_K[:-1]).any()):
            raise ValueError(f"has blocks of {what} that overlap, are not ascending, or end beyond its {size:,} bases")
        return starts_K.astype(np.uint32), ends_K.astype(np.uint32)

    def _numbers(self, count: int) -> Uints:
        content = self._file.read(4 * count)
        if len(content) < 4 * count:
            raise ValueError(f"ends beyond the {self._size:,} bytes of the file")
        return np.frombuffer(content, dtype=f"{self._order}u4").astype(np.uint32)

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self._path}: is a damaged 2bit file: {why}")


def _inside(blocks: tuple[Uints, Uints], start: int, end: int) -> NDArray[np.bool_]:
    """(B,) whether each base from `start` to `end` lies in a block."""
    starts_K, ends_K = blocks
    first, last = np.searchsorted(ends_K, start, side="right"), np.searchsorted(starts_K, end, side="left")
    steps_B = np.zeros(end - start + 1, dtype=np.int8)
    if first < last:
        np.add.at(steps_B, np.maximum(starts_K[first:last].astype(np.int64) - start, 0), 1)
        np.add.at(steps_B, np.minimum(ends_K[first:last].astype(np.int64) - start, end - start), -1)
    inside_B: NDArray[np.bool_] = np.cumsum(steps_B[:-1], dtype=np.int8).astype(np.bool_)
    return inside_B
