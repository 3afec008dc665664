"""The journal: every change of the value arrays, appended before it is made; one file (in segments) a rank.

A record holds the new codes themselves, so applying it twice is applying it once, and the journals of all
ranks, in the order of (step, rank), give the arrays again. A segment's name has its position in the journal, so
that positions stay what they were when old segments are deleted.
"""

import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from instar.checkpoint.lease import must_hold
from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors, write_all
from instar.core.files.plain import open_plain
from instar.core.files.temporary import sync_folder
from instar.masking.offsets import Spans

VERSION = 1
SEGMENT_BYTES = 64 << 20
"""A new segment begins once one is larger, so that compacted ones can be deleted."""
_FILE = struct.Struct("<8sII")
_MAGIC = b"instarJ\n"
_RECORD = struct.Struct("<IIqIII")
"""Mark, CRC of all that follows, step, spans, characters, bytes of the codes."""
_MARK = 0x4A6E7331
_NAME = re.compile(r"journal-([0-9]+)-([0-9]{15})\.bin")


@dataclass(frozen=True)
class Record:
    """What one rank changed in one step."""

    step: int
    spans: Spans
    codes: bytes
    """New codes of the spans' characters, channel after channel."""

    def to_bytes(self) -> bytes:
        """As it stands in the file."""
        lengths = self.spans.length_T.astype("<u4")
        body = self.spans.start_T.astype("<i8").tobytes() + lengths.tobytes() + self.codes
        head = struct.pack("<qIII", self.step, len(lengths), self.spans.num_characters, len(self.codes))
        return struct.pack("<II", _MARK, zlib.crc32(body, zlib.crc32(head))) + head + body


@dataclass(frozen=True)
class Segment:
    """One file of a journal."""

    path: Path
    rank: int
    start: int
    """Bytes of records in the segments before it."""

    @property
    def num_bytes(self) -> int:
        """Bytes of records, whole or torn."""
        return max(0, self.path.stat().st_size - _FILE.size)


def segments(folder: Path) -> list[Segment]:
    """All segments of all ranks, in order."""
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    named = [Segment(path, int(match[1]), int(match[2])) for match, path in found if match]
    return sorted(named, key=lambda segment: (segment.rank, segment.start))


def ranks(folder: Path) -> list[int]:
    """Ranks that have a journal."""
    return sorted({segment.rank for segment in segments(folder)})


class Journal:
    """Appends the records of one rank."""

    def __init__(self, folder: Path, rank: int, position: int = 0) -> None:
        """Go on at `position`, which is the journal's end; a segment is made when the first record comes."""
        self.folder, self.rank, self.position = folder, rank, position
        self._file: IO[bytes] | None = None
        self._segment_start = position

    def append(self, record: Record) -> None:
        """A record at the end, in the system's hands when this returns: a kill of the process cannot take it."""
        content = record.to_bytes()
        must_hold(self.folder)
        with disk_errors(self.folder, needed=len(content)):
            write_all(self._opened(), content)
        self.position += len(content)

    def sync(self) -> None:
        """On the disk when this returns."""
        if self._file is None:
            return
        with disk_errors(self.folder):
            os.fsync(self._file.fileno())
        if self.position - self._segment_start > SEGMENT_BYTES:
            self.close()

    def close(self) -> None:
        """The next record begins a new segment, or continues one that ends here."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            mine = [segment for segment in segments(self.folder) if segment.rank == self.rank]
            if mine and mine[-1].start + mine[-1].num_bytes == self.position and mine[-1].num_bytes <= SEGMENT_BYTES:
                self._segment_start = mine[-1].start
                self._file = open_plain(mine[-1].path, "ab", buffering=0)
            else:
                self._segment_start = self.position
                path = self.folder / f"journal-{self.rank}-{self.position:015}.bin"
                self._file = open_plain(path, "wb", buffering=0)
                write_all(self._file, _FILE.pack(_MAGIC, VERSION, self.rank))
                sync_folder(self.folder)
        return self._file


def read(folder: Path, rank: int, start: int, end: int | None) -> Iterator[Record]:
    """The records of a rank from `start` up to `end` (None: as far as they are whole), in order.

    CheckpointError for a damaged record before `end`, a missing part, or a newer version.
    """
    at = start
    for segment in segments(folder):
        if segment.rank != rank or segment.start + segment.num_bytes <= start:
            continue
        if end is not None and at >= end:
            break
        if segment.start > at:
            raise CheckpointError(f"{segment.path}: what lies before it, from byte {at:,} on, is missing")
        with open_plain(segment.path) as file:
            _check_head(segment, file.read(_FILE.size))
            file.seek(at - segment.start, os.SEEK_CUR)
            while end is None or at < end:
                record, size = _next(file)
                if record is None:
                    break
                yield record
                at += size
        if end is None and at < segment.start + segment.num_bytes:
            return  # torn
    if end is not None and at != end:
        name = f"journal-{rank}"
        raise CheckpointError(
            f"{folder / name}-*.bin: the record at byte {at:,} is damaged or missing (its CRC or its length does not "
            f"fit), and the checkpoint needs the journal up to byte {end:,}; resume from an older checkpoint"
        )


def whole_until(folder: Path, rank: int, start: int) -> int:
    """Where the last whole record of a journal ends."""
    at = start
    for record in read(folder, rank, start, None):
        at += len(record.to_bytes())
    return at


def cut(folder: Path, rank: int, position: int) -> int:
    """Drop what lies after `position`; returns how many bytes that were."""
    dropped = 0
    with disk_errors(folder):
        for segment in segments(folder):
            if segment.rank != rank:
                continue
            kept = position - segment.start
            dropped += max(0, segment.num_bytes - max(0, kept))
            if kept <= 0:
                segment.path.unlink()  # whatever is left of its head
            elif kept < segment.num_bytes:
                os.truncate(segment.path, _FILE.size + kept)
    return dropped


def drop_before(folder: Path, rank: int, position: int) -> None:
    """Delete segments that end at or before `position`, but never the last."""
    mine = [segment for segment in segments(folder) if segment.rank == rank]
    with disk_errors(folder):
        for segment in mine[:-1]:
            if segment.start + segment.num_bytes <= position:
                segment.path.unlink()


def _check_head(segment: Segment, head: bytes) -> None:
    if len(head) < _FILE.size:
        raise CheckpointError(f"{segment.path}: is cut short; it has not even its head")
    magic, version, rank = _FILE.unpack(head)
    if magic != _MAGIC or (version == VERSION and rank != segment.rank):
        raise CheckpointError(f"{segment.path}: is no journal of masking probabilities")
    if version != VERSION:
        raise CheckpointError(f"{segment.path}: format version {version}; this instar reads version {VERSION}")


def _next(file: IO[bytes]) -> tuple[Record | None, int]:
    """The record that begins here and its size in bytes; None where there is no whole one."""
    head = file.read(_RECORD.size)
    if len(head) < _RECORD.size:
        return None, 0
    mark, crc, step, num_spans, num_characters, num_bytes = _RECORD.unpack(head)
    size = 12 * num_spans + num_bytes
    if mark != _MARK or size > _left(file):
        return None, 0
    body = file.read(size)
    if zlib.crc32(body, zlib.crc32(head[8:])) != crc:
        return None, 0
    start_T: NDArray[Any] = np.frombuffer(body, "<i8", num_spans)
    length_T: NDArray[Any] = np.frombuffer(body, "<u4", num_spans, offset=8 * num_spans).astype(np.int64)
    if int(length_T.sum()) != num_characters:
        return None, 0
    return Record(step, Spans(start_T, length_T), body[12 * num_spans :]), len(head) + size


def _left(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size - file.tell()
