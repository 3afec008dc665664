"""BGZF, the gzip that can be entered anywhere: blocks of at most 64 KiB, each a gzip member of its own."""

import struct
import zlib
from bisect import bisect_right
from pathlib import Path
from typing import IO

from instar.core.errors import DataError

_BLOCK = 65280
_EMPTY = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The block that ends a file."""


def is_bgzf(head: bytes) -> bool:
    """Whether a file that begins with these 18 bytes is BGZF."""
    return len(head) >= 16 and head[:4] == b"\x1f\x8b\x08\x04" and head[12:14] == b"BC"


class BgzfReader:
    """Plain bytes of any part of a BGZF file; the table of blocks is read from the blocks' heads, once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("rb")
        self._packed: list[int] = []
        self._plain: list[int] = []
        self._scan()
        self._held: tuple[int, bytes] = (-1, b"")

    def __enter__(self) -> "BgzfReader":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    @property
    def size(self) -> int:
        """Plain bytes of the whole file."""
        return self._size

    def read(self, start: int, count: int) -> bytes:
        """`count` plain bytes from `start`; fewer at the end. DataError for a damaged block."""
        parts: list[bytes] = []
        while count > 0 and start < self._size:
            number = bisect_right(self._plain, start) - 1
            part = self._block(number)[start - self._plain[number] :][:count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return b"".join(parts)

    def _scan(self) -> None:
        at = plain = 0
        while head := self._file.read(18):
            if not is_bgzf(head) or len(head) < 18:
                raise DataError(f"{self._path}: byte {at:,}: wanted a BGZF block; pack it with bgzip, not with gzip")
            size = int(struct.unpack("<H", head[16:18])[0]) + 1
            self._file.seek(at + size - 4)
            tail = self._file.read(4)
            if len(tail) < 4:
                raise DataError(f"{self._path}: is cut short in the block at byte {at:,}")
            self._packed.append(at)
            self._plain.append(plain)
            plain += int(struct.unpack("<I", tail)[0])
            at += size
        self._size = plain

    def _block(self, number: int) -> bytes:
        if self._held[0] != number:
            self._file.seek(self._packed[number])
            head = self._file.read(18)
            size = int(struct.unpack("<H", head[16:18])[0]) + 1
            body = self._file.read(size - 18)
            try:
                plain = zlib.decompress(body[:-8], wbits=-15)
            except zlib.error as error:
                raise DataError(
                    f"{self._path}: the block at byte {self._packed[number]:,} is damaged ({error})"
                ) from error
            if zlib.crc32(plain) != struct.unpack("<I", body[-8:-4])[0]:
                raise DataError(
                    f"{self._path}: the block at byte {self._packed[number]:,} is damaged (its CRC differs)"
                )
            self._held = (number, plain)
        return self._held[1]


def write_bgzf(path: Path, content: bytes) -> None:
    """A BGZF file with this content."""
    with path.open("wb") as file:
        for at in range(0, len(content), _BLOCK):
            part = content[at : at + _BLOCK]
            packer = zlib.compressobj(6, zlib.DEFLATED, -15)
            body = packer.compress(part) + packer.flush()
            file.write(b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H2sHH", 6, b"BC", 2, len(body) + 25))
            file.write(body + struct.pack("<II", zlib.crc32(part), len(part)))
        file.write(_EMPTY)
