"""Positions in a genome: 0-based and half-open everywhere, as in BED; [0, 10) are the first ten bases.

What counts from 1 (GFF) is turned into that as it is read.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from instar.core.errors import DataError, UsageError

_RANGE = re.compile(r"(?P<name>.+):(?P<start>[^:]*)-(?P<end>[^:]*)", re.DOTALL)
_BRACES = re.compile(r"\{(?P<name>.+)\}(:(?P<start>[^:]*)-(?P<end>[^:]*))?", re.DOTALL)
_WHOLE = re.compile(r"[0-9]{1,18}")
_GROUPED = re.compile(r"[0-9]{1,3}(,[0-9]{3}){1,5}|[0-9]+(_[0-9]+)*")


def whole_number(text: str) -> int:
    """The number that decimal digits write; ValueError for a sign, an underscore, or anything else."""
    if _WHOLE.fullmatch(text) is None:
        raise ValueError(f"expected a whole number, got {text[:40]!r}")
    return int(text)


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
    """`chrI:1000-9000` (0-based, half-open) or a whole chromosome by its name; UsageError says what is wrong.

    Names may hold colons: the range is what follows the last one, unless the whole text is a name. Where both readings
    name a chromosome the text is refused; `{name}:1000-9000` and `{name}` say which one is meant.
    """
    names = aliases or Aliases(sizes)
    whole, match = names.resolve(text), _RANGE.fullmatch(text)
    part = None if match is None else names.resolve(match["name"])
    if whole is not None and part is not None:
        raise UsageError(
            f"region: {text!r} is the name of a sequence, and also a range of {part!r}; write {{{text}}} for the "
            f"first, or {{{match['name'] if match else ''}}}:START-END for the second"
        )
    if whole is not None:
        return Interval(whole, 0, sizes[whole])
    braces = _BRACES.fullmatch(text)
    if braces is not None and part is None:
        match, part = braces, names.resolve(braces["name"])
    if match is None or part is None:
        name = text if match is None else match["name"]
        raise UsageError(
            f"region: there is no chromosome {name[:200]!r}; there are: {few(sizes)}; expected one of "
            "them, or one with a range, like chrI:1000-9000"
        )
    if match["start"] is None:
        return Interval(part, 0, sizes[part])
    start, end = _position(match["start"], text), _position(match["end"], text)
    if not start < end <= sizes[part]:
        raise UsageError(f"region: wanted 0 <= start < end <= {sizes[part]:,}, the length of {part}; got {start}-{end}")
    return Interval(part, start, end)


def _position(digits: str, text: str) -> int:
    bare = digits.replace(",", "").replace("_", "")
    if _GROUPED.fullmatch(digits) is None or len(bare) > 18:
        raise UsageError(
            f"region: expected a range of two whole numbers, like 1000-9000 or 1,000-9,000; got {digits[:40]!r} in "
            f"{text[:200]!r}"
        )
    return int(bare)


def few(names: Iterable[str]) -> str:
    """The first names of many, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")


class Aliases:
    """Other names of chromosomes: those of a table, and with or without `chr`; M and MT are one."""

    def __init__(self, names: Iterable[str], rows: Iterable[tuple[str, ...]] = ()) -> None:
        """`names` are those of the sequence; each row holds names of one chromosome.

        DataError for rows by which one name would mean two sequences.
        """
        self._known = set(names)
        self._others: dict[str, str] = {}
        for row in rows:
            mine = [name for name in dict.fromkeys(row) if name in self._known]
            if len(mine) > 1:
                raise DataError(f"aliases: one row names two sequences of this genome: {few(mine)}")
            for name in row if mine else ():
                if self._others.setdefault(name, mine[0]) != mine[0]:
                    raise DataError(f"aliases: {name!r} is given to two sequences, {self._others[name]} and {mine[0]}")

    def resolve(self, name: str) -> str | None:
        """The sequence's name of a chromosome; None if it has none."""
        if name in self._known:
            return name
        if name in self._others:
            return self._others[name]
        bare = name.removeprefix("chr")
        tried = [bare if bare != name else f"chr{name}"]
        if bare in ("M", "MT"):
            tried += ["M", "MT", "chrM", "chrMT"]
        return next((other for other in tried if other in self._known), None)


def read_aliases(lines: Iterable[tuple[int, str]], source: str) -> Iterator[tuple[str, ...]]:
    """Rows of a chromAlias table: names of one chromosome, separated by tabs; DataError for a row of one name."""
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        row = tuple(word for word in line.split("\t") if word)
        if len(row) < 2:
            raise DataError(f"{source}:{number}: wanted names separated by tabs; got {line[:60]!r}")
        yield row
