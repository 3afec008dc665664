"""Features of a genome from GFF3, GTF or BED, in 0-based half-open coordinates, and statistics of a track by class."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.genome.bed import bed_row, is_bed, is_header
from instar.genome.coordinates import Aliases, Interval, few
from instar.genome.coverage import Coverage
from instar.genome.gff import gff_row, is_gff
from instar.genome.row import Row
from instar.genome.track import MAX_FAULTS, Track, Values

Format = Literal["gff", "bed"]
NO_CLASS = "(none)"


@dataclass(frozen=True, slots=True)
class Feature:
    """A named stretch."""

    interval: Interval
    kind: str
    """Its class: the type of a GFF, the name of a BED."""
    name: str = ""
    identity: str = ""
    """What the stretches of one feature share; empty: it is a feature of its own."""


@dataclass(frozen=True)
class Annotation:
    """The features of a file."""

    features: list[Feature]
    """In the file's order."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Features on sequences that the genome lacks, by the sequence's name."""

    def notices(self, source: object) -> tuple[str, ...]:
        """What is to be reported of what was skipped."""
        if not self.skipped:
            return ()
        return (
            f"{source}: {sum(self.skipped.values()):,} features are skipped; they lie on sequences that are not in "
            f"this genome, or not trained on: {few(self.skipped)}",
        )


@dataclass(frozen=True)
class ClassSummary:
    """Statistics of a track over the bases of a class; a base in several features of it counts once."""

    kind: str
    num_features: int
    num_bases: int
    num_known: int
    mean: float
    """NaN where nothing is known."""


def read_features(
    lines: Iterable[tuple[int, str]], source: str, sizes: Mapping[str, int], *, file_format: Format | None = None,
    aliases: Aliases | None = None,
) -> Annotation:  # fmt: skip
    """The features of an annotation; what lies on other sequences is skipped and counted.

    `file_format` None: the first row decides between GFF and BED. One DataError lists the rows that are neither, and
    what lies beyond a sequence's end; a file of which nothing lies on this genome is a DataError too.
    """
    reading = _Reading(source, sizes, aliases or Aliases(sizes), file_format)
    for number, line in lines:
        if (line.startswith(">") and reading.file_format == "gff") or line.split()[:1] == ["##FASTA"]:
            break
        if line.startswith("##"):
            reading.directive(number, line.split())
        elif line.strip() and not line.startswith("#") and not (is_header(line) and not is_gff(line)):
            reading.row(number, line)
    return reading.finish()


class _Reading:
    """Makes features of rows, and gathers what is wrong with them."""

    def __init__(self, source: str, sizes: Mapping[str, int], aliases: Aliases, file_format: Format | None) -> None:
        self.file_format = file_format
        self._source, self._sizes, self._aliases = source, sizes, aliases
        self._features: list[Feature] = []
        self._skipped: dict[str, int] = {}
        self._faults: list[str] = []
        self._num_faults = 0
        self._circular: set[str] = set()
        self._beyond: list[tuple[int, str, Row]] = []
        """Rows that end beyond their sequence, which a later row may say is circular."""

    def directive(self, number: int, words: list[str]) -> None:
        if words[0] == "##gff-version":
            self.file_format = self.file_format or "gff"
        if words[0] != "##sequence-region" or len(words) != 4 or not words[3].isdecimal():
            return
        known = self._resolve(words[1], may_be_escaped=True)
        if known is not None and int(words[3][:18]) > self._sizes[known]:
            self._fault(number, f"says that {words[1]} has bases up to {words[3]}; {self._has(known)}")

    def row(self, number: int, line: str) -> None:
        if self.file_format is None:
            self.file_format = "gff" if is_gff(line) or (not is_bed(line) and line.count("\t") > 6) else "bed"
        try:
            row = gff_row(line) if self.file_format == "gff" else bed_row(line)
        except ValueError as error:
            self._fault(number, f"is no line of a {self.file_format.upper()} file: {error}")
            return
        known = self._resolve(row.sequence, may_be_escaped=self.file_format == "gff")
        if known is None:
            self._skipped[row.sequence] = self._skipped.get(row.sequence, 0) + 1
            return
        if row.is_circular:
            self._circular.add(known)
        if row.parts[-1][1] > self._sizes[known]:
            self._beyond.append((number, known, row))
            return
        self._add(number, known, row, row.parts)

    def finish(self) -> Annotation:
        for number, known, row in self._beyond:
            size, (start, end) = self._sizes[known], row.parts[-1]
            if known in self._circular and not row.is_circular and start < size and end - start <= size:
                self._add(number, known, row, ((start, size), (0, end - size)))
            else:
                self._fault(number, f"{known}:{start}-{end} is beyond the end: {self._has(known)}")
        if self._num_faults:
            more = self._num_faults - len(self._faults)
            raise DataError("\n".join([*self._faults, *([f"and {more:,} more"] if more else [])]))
        if self._skipped and not self._features:
            raise DataError(
                f"{self._source}: none of its features lies on this genome: it names {few(self._skipped)}, and the "
                f"sequences are {few(self._sizes)}; a table can give other names (--aliases)"
            )
        return Annotation(self._features, self._skipped)

    def _add(self, number: int, known: str, row: Row, parts: Iterable[tuple[int, int]]) -> None:
        identity = row.identity or f"line {number}"
        for start, end in parts:
            self._features.append(Feature(Interval(known, start, end, row.strand), row.kind, row.name, identity))

    def _resolve(self, name: str, *, may_be_escaped: bool) -> str | None:
        known = self._aliases.resolve(name)
        return self._aliases.resolve(unquote(name)) if known is None and may_be_escaped else known

    def _has(self, known: str) -> str:
        return f"in this genome {known} has {self._sizes[known]:,} bases; is it of another assembly?"

    def _fault(self, number: int, text: str) -> None:
        self._num_faults += 1
        if len(self._faults) < MAX_FAULTS:
            self._faults.append(f"{self._source}:{number}: {text}")


def summarise(track: Track, features: Iterable[Feature]) -> list[ClassSummary]:
    """A row for each class, and one for what lies in none, by the number of bases."""
    kinds: dict[str, int] = {}
    intervals: dict[str, list[tuple[int, int, int]]] = {name: [] for name in track}
    counted: set[tuple[str, str]] = set()
    num_features: list[int] = []
    for feature in features:
        number = kinds.setdefault(feature.kind, len(kinds))
        if number == len(num_features):
            num_features.append(0)
        intervals[feature.interval.chromosome].append((number, feature.interval.start, feature.interval.end))
        if not feature.identity or (feature.kind, feature.identity) not in counted:
            num_features[number] += 1
            counted.add((feature.kind, feature.identity))
    sums = np.zeros((3, len(kinds) + 1))
    for name, values_B in track.items():
        sums += _sums(values_B, intervals[name], len(kinds))
    named = [*kinds, NO_CLASS]
    rows = (_row(kind, count, *column) for kind, count, column in zip(named, [*num_features, 0], sums.T, strict=True))
    return sorted(rows, key=lambda row: (-row.num_bases, row.kind))


def _sums(values_B: Values, intervals: list[tuple[int, int, int]], num_kinds: int) -> NDArray[np.float64]:
    """(3, K + 1): bases, known bases and their sum for each class, and last for what lies in none."""
    kind_F, start_F, end_F = np.array(intervals, dtype=np.int64).reshape(-1, 3).T
    size = np.array([len(values_B)])
    # Two classes more: all features, and the whole sequence.
    classes = np.concatenate([kind_F, np.full_like(kind_F, num_kinds), [num_kinds + 1]])
    starts, ends = np.concatenate([start_F, start_F, size * 0]), np.concatenate([end_F, end_F, size])
    coverage = Coverage(classes, starts, ends, num_kinds=num_kinds + 2, size=len(values_B))
    sums = np.stack([coverage.bases_K, *coverage.sums(values_B)])
    return np.concatenate([sums[:, :num_kinds], sums[:, -1:] - sums[:, -2:-1]], axis=1)


def _row(kind: str, num_features: int, num_bases: float, num_known: float, total: float) -> ClassSummary:
    mean = float(total) / num_known if num_known else float("nan")
    return ClassSummary(kind, num_features, int(num_bases), int(num_known), float(mean))
