"""A number for each base: runs of equal ones, bedGraph, wiggle, bigWig. What was never measured has no entry.

Letters: B bases of a chromosome.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError, UsageError
from instar.genome.coordinates import Aliases, Interval, few
from instar.genome.wiggle import Stretch, ValueLines

Values = NDArray[np.float32]
Track = dict[str, Values]
"""(B,) float32 by chromosome; NaN where nothing is known."""
MAX_FAULTS = 20
DIGITS = 6


@dataclass(frozen=True)
class Bounds:
    """What the values of a track may be."""

    low: float = 0.0
    high: float = 1.0


def empty_track(sizes: Mapping[str, int]) -> Track:
    """Nothing known of any base."""
    return {name: np.full(size, np.nan, dtype=np.float32) for name, size in sizes.items()}


def runs(values_B: Values, offset: int = 0) -> Iterator[tuple[int, int, float]]:
    """(start, end, value) of each run of equal known values, in order; 0-based, half-open, from `offset`."""
    if not len(values_B):
        return
    same = (values_B[1:] == values_B[:-1]) | (np.isnan(values_B[1:]) & np.isnan(values_B[:-1]))
    edges = np.concatenate([[0], np.flatnonzero(~same) + 1, [len(values_B)]])
    value = values_B[edges[:-1]]
    known = ~np.isnan(value)
    starts, ends = (edges[:-1][known] + offset).tolist(), (edges[1:][known] + offset).tolist()
    yield from zip(starts, ends, value[known].tolist(), strict=True)


def bedgraph_lines(track: Track) -> Iterator[str]:
    """The track as bedGraph: sorted, runs merged, each line with its end."""
    for name in sorted(track):
        for start, end, value in runs(track[name]):
            yield f"{name}\t{start}\t{end}\t{value:.{DIGITS}g}\n"


def read_values(
    lines: Iterable[tuple[int, str]], source: str, sizes: Mapping[str, int], *, bounds: Bounds | None = None,
    aliases: Aliases | None = None, log: Callable[[str], None] = lambda _: None,
) -> Track:  # fmt: skip
    """A bedGraph or a wiggle as a track; one DataError lists what overlaps, lies outside, or is no number.

    `bounds` None: values may be anything finite. What lies on sequences that `sizes` lacks is skipped and logged; a
    file of which nothing is left is a DataError.
    """
    track = empty_track(sizes)
    reading = _Reading(source, sizes, aliases or Aliases(sizes), bounds)
    for number, line in lines:
        row = reading.row(number, line)
        if row is not None:
            interval, value = row
            track[interval.chromosome][interval.start : interval.end] = value
    reading.check()
    reading.skipped.check(source, sizes, log, any_kept=reading.num_rows > 0)
    return track


class Skipped:
    """Counts what lies on sequences that a genome lacks."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, name: str, count: int = 1) -> None:
        """`count` values on the sequence `name`."""
        self._counts[name] = self._counts.get(name, 0) + count

    def check(self, source: object, sizes: Mapping[str, Any], log: Callable[[str], None], *, any_kept: bool) -> None:
        """Tell what was skipped; DataError where nothing else was there."""
        if not self._counts:
            return
        if not any_kept:
            raise DataError(
                f"{source}: none of its values lies on this genome: it names {few(self._counts)}, and the sequences "
                f"are {few(sizes)}"
            )
        log(
            f"{source}: {sum(self._counts.values()):,} values are skipped; they lie on sequences that are not in this "
            f"genome, or not trained on: {few(self._counts)}"
        )


class _Reading:
    """Checks the rows of a track and gathers its faults."""

    def __init__(self, source: str, sizes: Mapping[str, int], aliases: Aliases, bounds: Bounds | None) -> None:
        self.skipped, self.num_rows = Skipped(), 0
        self._source, self._sizes, self._aliases, self._bounds = source, sizes, aliases, bounds
        self._lines = ValueLines()
        self._faults: list[str] = []
        self._num_faults = 0
        self._last = Interval("", 0, 0)
        self._done: set[str] = set()

    def row(self, number: int, line: str) -> tuple[Interval, float] | None:
        try:
            stretch = self._lines.read(line)
        except ValueError as error:
            self._fault(number, str(error))
            return None
        if stretch is None:
            return None
        known = self._aliases.resolve(stretch.sequence)
        if known is None:
            self.skipped.add(stretch.sequence)
            return None
        return self._checked(number, known, stretch)

    def _checked(self, number: int, known: str, stretch: Stretch) -> tuple[Interval, float] | None:
        start, end, value = stretch.start, stretch.end, stretch.value
        if not 0 <= start < end <= self._sizes[known]:
            self._fault(number, f"[{start}, {end}) is not within the {self._sizes[known]:,} bases of {known}")
            return None
        low, high = (-np.inf, np.inf) if self._bounds is None else (self._bounds.low, self._bounds.high)
        if not (low <= value <= high and np.isfinite(value)):
            self._fault(number, f"wanted a value from {low:g} to {high:g}; got {value:g}")
            return None
        interval, last = Interval(known, start, end), self._last
        if known != last.chromosome:
            self._done.add(last.chromosome)
        if known in self._done:
            self._fault(number, f"{known} came before; its lines are to stand together")
            return None
        if known == last.chromosome and start < last.end:
            what = "overlaps" if end > last.start else "is out of order after"
            self._fault(number, f"{interval} {what} {last}")
            return None
        self._last = interval
        self.num_rows += 1
        return interval, value

    def _fault(self, number: int, text: str) -> None:
        self._num_faults += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(f"{self._source}:{number}: {text}")

    def check(self) -> None:
        if self._num_faults:
            more = self._num_faults - len(self._faults)
            raise DataError("\n".join([*self._faults, *([f"and {more} more"] if more else [])]))


def must_be_known(path: Path, track: Track) -> None:
    """DataError where a track that is to be `path` has no value."""
    if not any(bool((~np.isnan(values_B)).any()) for values_B in track.values()):
        raise DataError(f"{path}: nothing is known of any base, and a bigWig cannot be empty")


def write_bigwig(path: Path, track: Track) -> None:
    """The track as bigWig, with zoom levels; DataError for one that knows nothing."""
    bigtools = _bigtools()
    must_be_known(path, track)
    sizes = {name: len(track[name]) for name in sorted(track)}
    rows = ((name, start, end, value) for name in sizes for start, end, value in runs(track[name]))
    bigtools.open(str(path), "w").write(sizes, rows)


def read_bigwig(
    path: Path, sizes: Mapping[str, int] | None = None, aliases: Aliases | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Track:  # fmt: skip
    """A bigWig as a track; sequences that `sizes` lacks are skipped and logged.

    DataError for a damaged file, a sequence of another length, or a file of which nothing is left.
    """
    bigtools = _bigtools()
    try:
        file = bigtools.open(str(path))
        there: dict[str, int] = file.chroms()
    except Exception as error:
        raise DataError(f"{path}: is not a whole bigWig file ({error})") from error
    track = empty_track(there if sizes is None else sizes)
    names = aliases or Aliases(track)
    problems, skipped, taken = [], Skipped(), dict[str, str]()
    for name, size in there.items():
        known = names.resolve(name)
        if known is None:
            skipped.add(name, sum(1 for _ in file.records(name)))
        elif taken.setdefault(known, name) != name:
            problems.append(f"{path}: {name} and {taken[known]} are both {known} in this genome")
        elif size != len(track[known]):
            problems.append(f"{path}: {name} has {size:,} bases; in this genome it has {len(track[known]):,}")
        else:
            for start, end, value in file.records(name):
                track[known][start:end] = value
    if problems:
        raise DataError("\n".join(problems[:MAX_FAULTS]))
    skipped.check(path, track, log, any_kept=bool(taken))
    return track


def _bigtools() -> Any:
    try:
        import pybigtools
    except ImportError as error:
        raise UsageError(
            "bigWig needs the package pybigtools; install it with: pip install 'instar[genome]'"
        ) from error
    return pybigtools
