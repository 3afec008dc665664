"""Places in a genome: 0-based and half-open everywhere, as in BED; [0, 10) are the first ten bases.

What counts from 1 (GFF) is turned into that as it is read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from instar.core.errors import DataError, UsageError

_REGION = re.compile(r"(?P<name>[^:\s]+)(:(?P<start>[0-9,_]+)-(?P<end>[0-9,_]+))?")


@dataclass(frozen=True, order=True)
class Interval:
    """Bases `start` to `end` (not included) of a chromosome, counted from 0."""

    chromosome: str
    start: int
    end: int
    strand: str = "."

    def __str__(self) -> str:
        return f"{self.chromosome}:{self.start}-{self.end}"

    def __len__(self) -> int:
        return self.end - self.start

    def windows(self, size: int, step: int | None = None) -> "Iterator[Interval]":
        """Windows of `size` bases, each `step` (by default `size`) after the one before; the last may be shorter."""
        for start in range(self.start, self.end, step or size):
            yield Interval(self.chromosome, start, min(start + size, self.end), self.strand)


def parse_region(text: str, sizes: Mapping[str, int], aliases: "Aliases | None" = None) -> Interval:
    """`chrI:1000-9000` (0-based, half-open) or a whole chromosome by its name; UsageError says what is wrong."""
    match = _REGION.fullmatch(text)
    if match is None:
        raise UsageError(f"region: wanted a chromosome, or one like chrI:1000-9000; got {text!r}")
    name = (aliases or Aliases(sizes)).resolve(match["name"])
    if name is None:
        raise UsageError(f"region: there is no chromosome {match['name']!r}; there are: {_few(sizes)}")
    if match["start"] is None:
        return Interval(name, 0, sizes[name])
    start, end = (int(re.sub("[,_]", "", match[side])) for side in ("start", "end"))
    if not start < end <= sizes[name]:
        raise UsageError(f"region: wanted 0 <= start < end <= {sizes[name]:,}, the length of {name}; got {start}-{end}")
    return Interval(name, start, end)


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


class Aliases:
    """Other names of chromosomes: those of a table, and with or without `chr`; M and MT are one."""

    def __init__(self, names: Iterable[str], rows: Iterable[tuple[str, ...]] = ()) -> None:
        """`names` are those of the sequence; each row holds names of one chromosome."""
        self._known = set(names)
        self._others: dict[str, str] = {}
        for row in rows:
            mine = next((name for name in row if name in self._known), None)
            if mine is not None:
                self._others.update(dict.fromkeys(row, mine))

    def resolve(self, name: str) -> str | None:
        """The sequence's name of a chromosome; None if it has none."""
        if name in self._known:
            return name
        if name in self._others:
            return self._others[name]
        bare = name.removeprefix("chr")
        tried = [bare, f"chr{bare}"]
        if bare in ("M", "MT"):
            tried += ["M", "MT", "chrM", "chrMT"]
        return next((other for other in tried if other in self._known), None)


def read_aliases(lines: Iterable[tuple[int, str]], place: str) -> Iterator[tuple[str, ...]]:
    """Rows of a chromAlias table: names of one chromosome, separated by tabs; DataError for a row of one name."""
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        row = tuple(word for word in line.split("\t") if word)
        if len(row) < 2:
            raise DataError(f"{place}:{number}: wanted names separated by tabs; got {line[:60]!r}")
        yield row
