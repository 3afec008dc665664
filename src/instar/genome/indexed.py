"""Any part of a FASTA file, plain or BGZF, without reading the rest: the index says where each line begins."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO

from instar.core.errors import DataError, InputMissingError, UsageError
from instar.genome.bgzf import BgzfReader, is_bgzf
from instar.genome.coordinates import Aliases, Interval

_SCAN = 1 << 20


@dataclass(frozen=True)
class Entry:
    """A record's row in the index (the columns of `samtools faidx`)."""

    name: str
    length: int
    offset: int
    """Plain byte of the first base."""
    line_bases: int
    line_bytes: int


class IndexedFasta:
    """Sequences by coordinates (0-based, half-open); their case is kept. Use it in a `with`."""

    def __init__(self, path: Path) -> None:
        """Open a FASTA file; the index FILE.fai is read if it is as new as the file, else it is worked out.

        InputMissingError for a file that is not there, DataError for plain gzip or lines of uneven length.
        """
        try:
            with path.open("rb") as file:
                head = file.read(18)
        except OSError as error:
            raise InputMissingError(f"{path}: cannot be read ({error.strerror})") from error
        if head.startswith(b"\x1f\x8b") and not is_bgzf(head):
            raise DataError(f"{path}: plain gzip cannot be entered in the middle; pack it with bgzip")
        self.path = path
        self._packed = BgzfReader(path) if is_bgzf(head) else None
        self._plain: IO[bytes] | None = path.open("rb") if self._packed is None else None
        try:
            self.entries = {entry.name: entry for entry in self._index()}
        except BaseException:
            self.close()
            raise
        self.aliases = Aliases(self.entries)

    def __enter__(self) -> "IndexedFasta":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._packed is not None:
            self._packed.__exit__()
        if self._plain is not None:
            self._plain.close()

    @property
    def sizes(self) -> dict[str, int]:
        """Bases of each chromosome, in the file's order."""
        return {name: entry.length for name, entry in self.entries.items()}

    def fetch(self, place: Interval) -> str:
        """The bases of a place, on the plus strand; UsageError outside the genome."""
        name = self.aliases.resolve(place.chromosome)
        if name is None:
            raise UsageError(f"{self.path}: there is no chromosome {place.chromosome!r}")
        entry = self.entries[name]
        if not 0 <= place.start <= place.end <= entry.length:
            raise UsageError(f"{self.path}: {name} has {entry.length:,} bases; got {place}")
        first, last = self._byte(entry, place.start), self._byte(entry, place.end)
        return self._read(first, last - first).translate(None, b"\r\n").decode("ascii", "replace")

    @staticmethod
    def _byte(entry: Entry, base: int) -> int:
        line, within = divmod(base, entry.line_bases) if entry.line_bases else (0, 0)
        return entry.offset + line * entry.line_bytes + within

    def _read(self, start: int, count: int) -> bytes:
        if self._packed is not None:
            return self._packed.read(start, count)
        if self._plain is None:
            raise ValueError("the file is closed")
        self._plain.seek(start)
        return self._plain.read(count)

    def _index(self) -> list[Entry]:
        index = self.path.with_name(f"{self.path.name}.fai")
        if index.is_file() and index.stat().st_mtime >= self.path.stat().st_mtime:
            return [self._row(index, number, line) for number, line in enumerate(index.read_text().splitlines(), 1)]
        return self._scan()

    @staticmethod
    def _row(index: Path, number: int, line: str) -> Entry:
        words = line.split("\t")
        try:
            return Entry(words[0], *map(int, words[1:5]))
        except (TypeError, ValueError) as error:
            raise DataError(f"{index}:{number}: wanted NAME and four numbers; got {line[:60]!r}") from error

    def _scan(self) -> list[Entry]:
        found: list[Entry] = []
        at, rest, is_last = 0, b"", False
        reading = _Reading(self.path, found)
        while not is_last:
            block = self._read(at + len(rest), _SCAN)
            is_last = len(block) < _SCAN
            held = rest + block
            end = len(held) if is_last else held.rfind(b"\n") + 1
            for line in held[:end].splitlines(keepends=True):
                reading.take(line, at)
                at += len(line)
            rest = held[end:]
        reading.finish()
        return found


class _Reading:
    """Makes index rows of lines."""

    def __init__(self, path: Path, found: list[Entry]) -> None:
        self._path, self._found = path, found
        self._name: str | None = None
        self._offset = self._length = self._bases = self._bytes = 0
        self._has_ended = False

    def take(self, line: bytes, at: int) -> None:
        if line.startswith(b">"):
            self.finish()
            words = line[1:].decode("utf-8", "replace").split()
            self._name, self._offset = (words[0] if words else ""), at + len(line)
            self._length = self._bases = self._bytes = 0
            self._has_ended = False
            return
        bases = len(line.rstrip(b"\r\n"))
        if self._name is None or (not bases and not self._length):
            return
        if self._has_ended and bases:
            raise DataError(f"{self._path}: the lines of {self._name} are of uneven length, so it cannot be indexed")
        self._bases, self._bytes = self._bases or bases, self._bytes or len(line)
        self._has_ended = bases < self._bases
        if bases > self._bases:
            raise DataError(f"{self._path}: the lines of {self._name} are of uneven length, so it cannot be indexed")
        self._length += bases

    def finish(self) -> None:
        if self._name is not None:
            self._found.append(Entry(self._name, self._length, self._offset, self._bases, self._bytes))
            self._name = None
