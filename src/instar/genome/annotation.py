"""Features of a genome from GFF3 or BED, in 0-based half-open coordinates, and what a track says of each class."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.genome.coordinates import Aliases, Interval
from instar.genome.track import MAX_FAULTS, Track

Format = Literal["gff", "bed"]


@dataclass(frozen=True)
class Feature:
    """A named stretch."""

    place: Interval
    kind: str
    """Its class: the type of a GFF, the name of a BED."""
    name: str = ""


@dataclass(frozen=True)
class ClassSummary:
    """What a track says of the bases of a class; a base in several features of it counts once."""

    kind: str
    num_features: int
    num_bases: int
    num_known: int
    mean: float
    """NaN where nothing is known."""


def read_features(
    lines: Iterable[tuple[int, str]], place: str, sizes: Mapping[str, int], *, form: Format,
    aliases: Aliases | None = None,
) -> list[Feature]:  # fmt: skip
    """Features in the file's order; one DataError lists unknown chromosomes and what lies beyond the sequence's end."""
    names = aliases or Aliases(sizes)
    found: list[Feature] = []
    faults: list[str] = []
    for number, line in _rows(lines):
        try:
            feature = _gff(line) if form == "gff" else _bed(line)
        except (IndexError, ValueError):
            faults.append(f"{place}:{number}: is no line of a {form.upper()} file: {line[:60]!r}")
            continue
        known = names.resolve(feature.place.chromosome)
        if known is None:
            faults.append(f"{place}:{number}: there is no chromosome {feature.place.chromosome!r} in this genome")
        elif not 0 <= feature.place.start < feature.place.end <= sizes[known]:
            faults.append(f"{place}:{number}: {feature.place} is not within the {sizes[known]:,} bases of {known}")
        else:
            inside = Interval(known, feature.place.start, feature.place.end, feature.place.strand)
            found.append(Feature(inside, feature.kind, feature.name))
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise DataError("\n".join([*faults[:MAX_FAULTS], *more]))
    return found


def _rows(lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        if line.startswith("##FASTA"):
            return
        if line.strip() and not line.startswith(("#", "track", "browser")):
            yield number, line


def _gff(line: str) -> Feature:
    words = line.split("\t")
    attributes = dict(part.split("=", 1) for part in words[8].split(";") if "=" in part) if len(words) > 8 else {}
    name = attributes.get("Name") or attributes.get("ID") or ""
    # GFF counts from 1 and includes the end.
    return Feature(Interval(words[0], int(words[3]) - 1, int(words[4]), words[6]), words[2], name)


def _bed(line: str) -> Feature:
    words = line.split("\t") if "\t" in line else line.split()
    name = words[3] if len(words) > 3 else "feature"
    return Feature(Interval(words[0], int(words[1]), int(words[2]), words[5] if len(words) > 5 else "."), name, name)


def summarise(track: Track, features: Iterable[Feature]) -> list[ClassSummary]:
    """A row for each class, and one for what lies in none, by the number of bases."""
    masks: dict[str, dict[str, NDArray[np.bool_]]] = {}
    counts: dict[str, int] = {}
    covered = {name: np.zeros(len(values_B), dtype=np.bool_) for name, values_B in track.items()}
    for feature in features:
        mine = masks.setdefault(feature.kind, {})
        place = feature.place
        mask = mine.setdefault(place.chromosome, np.zeros(len(track[place.chromosome]), dtype=np.bool_))
        mask[place.start : place.end] = True
        covered[place.chromosome][place.start : place.end] = True
        counts[feature.kind] = counts.get(feature.kind, 0) + 1
    rows = [_row(kind, counts[kind], track, mask) for kind, mask in masks.items()]
    rows.append(_row("(none)", 0, track, {name: ~mask for name, mask in covered.items()}))
    return sorted(rows, key=lambda row: (-row.num_bases, row.kind))


def _row(kind: str, num_features: int, track: Track, masks: Mapping[str, NDArray[np.bool_]]) -> ClassSummary:
    values = [track[name][mask] for name, mask in masks.items()]
    known = [part[~np.isnan(part)] for part in values]
    num_known = sum(map(len, known))
    total = float(sum(part.sum(dtype=np.float64) for part in known))
    mean = total / num_known if num_known else float("nan")
    return ClassSummary(kind, num_features, sum(map(len, values)), num_known, mean)
