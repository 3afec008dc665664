"""Windows around gene starts, and windows elsewhere, of any genome: two classes in three files.

    python benchmarks/gene_starts.py GENOME.fa ANNOTATION.gff FOLDER

A gene start is the first base of a transcript's first coding exon; rows of one transcript share ID, Parent or
transcript_id. Windows are read on the strand of their gene. For each start one window is drawn elsewhere: at a uniform
place, on either strand, without a base of any window around a start. No window has an N. The genome is cut into
stretches of 100,000 bases, of which each fifth is `test`, each fifth `valid`, and the rest `train`; a window belongs to
the stretch that it lies in, and one that reaches into the next is left out, so no base is in two files.
FOLDER gets train.tsv, valid.tsv and test.tsv, with columns sequence and label.
"""

import argparse
import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from instar.genome.strand import reverse_complement

STRETCH = 100_000
PARTS = ("test", "valid", "train", "train", "train")
_GROUP = re.compile(r'(?:transcript_id|Parent|ID)[ =]"?([^";]+)')


class Start(NamedTuple):
    """The first coding base of a transcript, 0-based, and its strand."""

    sequence: str
    place: int
    is_minus: bool


def opened(path: Path) -> Iterator[str]:
    """The lines of a file, packed by gzip or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from file


def genome_of(path: Path) -> dict[str, str]:
    """Sequences by name, in upper case."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in opened(path):
        if line.startswith(">"):
            name = line[1:].split()[0]
            found[name] = []
        else:
            found[name].append(line.strip().upper())
    return {name: "".join(lines) for name, lines in found.items()}


def starts_of(path: Path) -> list[Start]:
    """One of each place and strand, in order."""
    exons: dict[tuple[str, str, str], list[int]] = {}
    for line in opened(path):
        words = line.rstrip("\n").split("\t")
        if line.startswith("#") or len(words) < 9 or words[2] != "CDS":
            continue
        group = _GROUP.search(words[8])
        key = (words[0], words[6], group[1] if group else line)
        exons.setdefault(key, []).extend((int(words[3]) - 1, int(words[4]) - 1))
    return sorted(
        {Start(name, max(at) if strand == "-" else min(at), strand == "-") for (name, strand, _), at in exons.items()}
    )


class Cut(NamedTuple):
    """How windows lie."""

    length: int
    upstream: int
    """Bases before the start."""
    shift: int
    """How much further to either side a window may be, drawn for each start."""
    seed: int


def windows_of(genome: dict[str, str], starts: list[Start], cut: Cut) -> Iterator[tuple[str, str, str]]:
    """(part, bases, label): a window around each start, and one elsewhere in the same part."""
    rng = np.random.default_rng(cut.seed)
    firsts = []
    for start in starts:
        upstream = cut.upstream + int(rng.integers(-cut.shift, cut.shift + 1))
        firsts.append(start.place + 1 - (cut.length - upstream) if start.is_minus else start.place - upstream)
    taken = {name: np.zeros(len(bases), dtype=np.bool_) for name, bases in genome.items()}
    for start, first in zip(starts, firsts, strict=True):
        taken[start.sequence][max(0, first) : first + cut.length] = True
    for start, first in zip(starts, firsts, strict=True):
        bases, part = genome[start.sequence], part_of(first, cut.length)
        if part is None or not is_whole(bases, first, cut.length):
            continue
        yield part, read(bases, first, cut.length, is_minus=start.is_minus), "start"
        while True:
            other = int(rng.integers(0, len(bases) - cut.length))
            is_free = not taken[start.sequence][other : other + cut.length].any()
            if is_free and part_of(other, cut.length) == part and is_whole(bases, other, cut.length):
                break
        yield part, read(bases, other, cut.length, is_minus=rng.random() < 0.5), "elsewhere"


def read(bases: str, first: int, length: int, *, is_minus: bool) -> str:
    """A window as its strand has it."""
    window = bases[first : first + length]
    return reverse_complement(window) if is_minus else window


def part_of(first: int, length: int) -> str | None:
    """The part that a window belongs to; None where it lies in two stretches."""
    stretch = first // STRETCH
    return PARTS[stretch % len(PARTS)] if (first + length - 1) // STRETCH == stretch else None


def is_whole(bases: str, first: int, length: int) -> bool:
    """Whether a window lies on the sequence and all of its bases are known."""
    return 0 <= first <= len(bases) - length and not set(bases[first : first + length]) - set("ACGT")


def main() -> None:
    """Write the three files and say how many rows they have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=Path)
    parser.add_argument("annotation", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--length", type=int, default=300, help="bases of a window")
    parser.add_argument("--upstream", type=int, default=150, help="of them before the start")
    parser.add_argument("--shift", type=int, default=0, help="bases that a window may lie further to either side")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    given = parser.parse_args()
    genome = genome_of(given.genome)
    starts = [start for start in starts_of(given.annotation) if start.sequence in genome]
    if not starts:
        parser.error(f"{given.annotation}: no CDS on a sequence of {given.genome}")
    rows = list(windows_of(genome, starts, Cut(given.length, given.upstream, given.shift, given.seed)))
    rows = [rows[number] for number in np.random.default_rng(given.seed).permutation(len(rows))]
    given.folder.mkdir(parents=True, exist_ok=True)
    for part in sorted(set(PARTS)):
        lines = [f"{bases}\t{label}\n" for where, bases, label in rows if where == part]
        (given.folder / f"{part}.tsv").write_text("sequence\tlabel\n" + "".join(lines))
        print(f"{part}: {len(lines):,} windows")


if __name__ == "__main__":
    main()
