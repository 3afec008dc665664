"""Parts of a genome that are chosen: sequences by name, and intervals of a BED file."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise

from instar.core.errors import DataError
from instar.genome.bed import bed_row, is_header
from instar.genome.coordinates import Aliases, few

Span = tuple[int, int]
"""0-based, half-open."""
WHOLE: tuple[Span, ...] = ((0, sys.maxsize),)
_MAX_FAULTS = 20


@dataclass(frozen=True)
class Intervals:
    """Intervals of one or several BED files, merged where they overlap or touch."""

    spans: Mapping[str, tuple[Span, ...]]
    """Of each sequence, ascending."""
    ends: Mapping[str, tuple[int, str]]
    """Of each sequence the furthest end, and `file:line` where it is written."""
    num_rows: int = 0
    num_merged: int = 0
    """Rows that overlap or touch one before them."""
    has_strand: bool = False

    @property
    def num_bases(self) -> int:
        """Bases of all."""
        return sum(end - start for spans in self.spans.values() for start, end in spans)


def read_intervals(files: Iterable[tuple[str, Iterable[tuple[int, str]]]]) -> Intervals:
    """The intervals of BED files, given as (name, numbered lines): of a row with blocks (12 columns) its blocks.

    One DataError lists the rows that are no intervals; a file without any is a DataError too.
    """
    found: dict[str, list[Span]] = {}
    ends: dict[str, tuple[int, str]] = {}
    faults: list[str] = []
    num_rows, has_strand = 0, False
    for file, lines in files:
        before = num_rows
        for number, line in lines:
            if not line.strip() or line.startswith("#") or is_header(line):
                continue
            num_rows += 1
            try:
                row = bed_row(line)
                if any(start == end for start, end in row.parts):
                    raise ValueError("the interval holds no base; expected start < end")
            except ValueError as error:
                faults.append(f"{file}:{number}: is no line of a BED file: {error}")
                continue
            has_strand |= row.strand != "."
            found.setdefault(row.sequence, []).extend(row.parts)
            ends[row.sequence] = max(ends.get(row.sequence, (0, "")), (row.parts[-1][1], f"{file}:{number}"))
        if num_rows == before:
            faults.append(f"{file}: holds no intervals; expected lines of SEQUENCE START END, as in BED")
    if faults:
        more = [f"and {len(faults) - _MAX_FAULTS:,} more"] if len(faults) > _MAX_FAULTS else []
        raise DataError("\n".join([*faults[:_MAX_FAULTS], *more]))
    merged = {name: tuple(_merged(spans)) for name, spans in found.items()}
    num_merged = sum(map(len, found.values())) - sum(map(len, merged.values()))
    return Intervals(merged, ends, num_rows, num_merged, has_strand)


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    first = last = -1
    for start, end in sorted(spans):
        if start > last:
            if last >= 0:
                yield first, last
            first, last = start, end
        last = max(last, end)
    yield first, last


@dataclass(frozen=True)
class Selection:
    """What is read of a genome: names, and intervals within them; less what is left out."""

    chromosomes: Set[str] | None = None
    """None: all."""
    left_out: Set[str] = frozenset()
    intervals: Intervals | None = None
    """None: whole sequences."""
    intervals_left_out: Intervals | None = None

    @property
    def is_all(self) -> bool:
        """Whether everything is chosen."""
        return self == Selection()

    @property
    def names(self) -> Set[str]:
        """Every sequence that is named."""
        both = (self.intervals, self.intervals_left_out)
        spans = {name for intervals in both if intervals is not None for name in intervals.spans}
        return spans | self.left_out | (self.chromosomes or set())

    def has_intervals_of(self, name: str) -> bool:
        """Whether intervals of a sequence are named."""
        both = (self.intervals, self.intervals_left_out)
        return any(intervals is not None and name in intervals.spans for intervals in both)

    def of(self, name: str) -> tuple[Span, ...]:
        """The chosen intervals of a sequence, ascending and apart."""
        if name in self.left_out or (self.chromosomes is not None and name not in self.chromosomes):
            return ()
        spans = WHOLE if self.intervals is None else self.intervals.spans.get(name, ())
        out = () if self.intervals_left_out is None else self.intervals_left_out.spans.get(name, ())
        return tuple(_without(spans, out))

    def faults(self, sizes: Mapping[str, int]) -> Iterator[str]:
        """What is wrong with the selection on a genome with these sequences, all of them."""
        aliases = Aliases(sizes)
        for name in sorted(self.names - set(sizes)):
            if self._is_needed(name):
                yield f"there is no sequence {name[:200]!r}{_near(name, aliases, sizes)}"
        for intervals in (self.intervals, self.intervals_left_out):
            for name, (end, source) in {} if intervals is None else intervals.ends.items():
                if end > sizes.get(name, end):
                    yield (
                        f"{source}: an interval ends at {end:,}, beyond the end of {name}, which has {sizes[name]:,} "
                        "bases; is it of another assembly?"
                    )

    def _is_needed(self, name: str) -> bool:
        """Whether a name must be there: intervals of sequences that are not chosen need not."""
        chosen = self.chromosomes is None or name in self.chromosomes
        return chosen or name in self.left_out


def _near(name: str, aliases: Aliases, sizes: Mapping[str, int]) -> str:
    import difflib

    known = aliases.resolve(name)
    near = [known] if known is not None else difflib.get_close_matches(name, list(sizes), n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint}; there are: {few(sizes)}"


def _without(spans: Iterable[Span], out: tuple[Span, ...]) -> Iterator[Span]:
    if not out:
        yield from spans
        return
    gaps = [(-1, -1), *out, (sys.maxsize, sys.maxsize)]
    yield from intersection(spans, [(before[1], after[0]) for before, after in pairwise(gaps)])


def intersection(one: Iterable[Span], other: Iterable[Span]) -> Iterator[Span]:
    """What lies in both of two lists of intervals, each ascending and apart."""
    these, those = iter(one), iter(other)
    this, that = next(these, None), next(those, None)
    while this is not None and that is not None:
        first, last = max(this[0], that[0]), min(this[1], that[1])
        if first < last:
            yield first, last
        if this[1] <= that[1]:
            this = next(these, None)
        else:
            that = next(those, None)


def shared(one: Selection, other: Selection, names: Iterable[str]) -> Iterator[tuple[str, Span]]:
    """The intervals of these sequences that both choose."""
    for name in names:
        for span in intersection(one.of(name), other.of(name)):
            yield name, span
