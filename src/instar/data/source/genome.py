"""What every genome has: sequences with coordinates, of which a part may be chosen."""

import hashlib
import json
from abc import abstractmethod
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from instar.config import PathText
from instar.core.errors import ConfigError, DataError
from instar.core.files.reading import Faults, lines, resolve
from instar.data.document import Document
from instar.data.source.base import FileSource
from instar.genome.coordinates import Interval, few
from instar.genome.fasta import Chunk, Fault, as_dna
from instar.genome.selection import Intervals, Selection, read_intervals, shared
from instar.genome.stretches import stretches, within

Parts = Iterator[tuple[int, bytes]]
"""(start, bases) in order."""


def _is_empty(value: Any) -> bool:
    return value is None or value == []


class Genome(FileSource):
    """Nucleotide sequences.

    Runs of N cut a sequence into documents, whose `start` is the 0-based coordinate in the
    sequence; one of N only is one document without text. A stretch longer than 8 Mi bases becomes several documents.
    Lower case (repeats) becomes a flag of each token; ids are those of upper case, and of T where RNA has U.
    """

    choice: ClassVar[tuple[str, ...]] = ("chromosomes", "exclude_chromosomes", "intervals", "exclude_intervals")
    """The keys that choose a part."""

    kind: str
    min_gap: int = Field(default=1, ge=1)
    """Length of a run of N that cuts a sequence; a shorter one stays in the text, as unknown tokens."""
    chromosomes: list[str] | None = Field(default=None, min_length=1, exclude_if=_is_empty)
    """Names of the sequences that are read; none: all."""
    exclude_chromosomes: list[str] = Field(default=[], exclude_if=_is_empty)
    """Names of sequences that are not read."""
    intervals: PathText | list[PathText] | None = Field(default=None, exclude_if=_is_empty)
    """BED files of the intervals that are read, merged where they overlap or touch, on the plus strand; none: all."""
    exclude_intervals: PathText | list[PathText] = Field(default=[], exclude_if=_is_empty)
    """BED files of intervals that are not read."""

    @staticmethod
    def choice_of_all() -> dict[str, Any]:
        """Values of these keys that choose everything."""
        return {"chromosomes": None, "exclude_chromosomes": [], "intervals": None, "exclude_intervals": []}

    @abstractmethod
    def chunks(self, path: Path, fault: Fault) -> Iterator[Chunk]:
        """The bases of each sequence of a file, in order; what is wrong goes to `fault(line, text)`."""

    @property
    def folds_case(self) -> bool:
        return True

    def normalized(self, text: str) -> str:
        return as_dna(text)

    def options(self) -> dict[str, Any]:
        found = super().options()
        for key in ("intervals", "exclude_intervals"):
            if key in found:
                read = _read(getattr(self, key))
                spans = sorted(read.spans.items()) if read is not None else []
                found[key] = hashlib.sha256(json.dumps(spans).encode()).hexdigest()
        return found

    def selection(self) -> Selection:
        """What is read; DataError for a BED file that is none."""
        return Selection(
            chromosomes=None if self.chromosomes is None else frozenset(self.chromosomes),
            left_out=frozenset(self.exclude_chromosomes),
            intervals=_read(self.intervals),
            intervals_left_out=_read(self.exclude_intervals),
        )

    def documents(self) -> Iterator[Document]:
        faults, selection = Faults(), self.selection()
        sizes: dict[str, int] = {}
        seen: dict[str, Path] = {}
        for path, (name, line), parts in self._sequences(faults, sizes):
            if seen.setdefault(name, path) != path and selection.has_intervals_of(name):
                text = f"the name '{name}' came before, in {seen[name]}, and intervals name it; read one of the files"
                _add(faults, path, line, text)
            chosen, has_text = selection.of(name), False
            for start, text in stretches(within(parts, chosen), self.min_gap):
                has_text = True
                yield Document(text, name=name, start=start, file=str(path), line=line)
            if chosen and not has_text:
                start, end = chosen[0][0], min(chosen[-1][1], sizes[name])
                yield Document("", name=name, start=start, file=str(path), line=line, gap=end - start)
        for fault in selection.faults(sizes):
            faults.add(f"{self.path}: {fault}")
        faults.check()

    def sizes(self) -> Iterator[tuple[Path, str, int]]:
        """(file, name, bases) of each sequence of which something is read, in order."""
        faults, selection = Faults(), self.selection()
        sizes: dict[str, int] = {}
        for path, (name, _), parts in self._sequences(faults, sizes):
            deque(parts, maxlen=0)
            if selection.of(name):
                yield path, name, sizes[name]
        faults.check()

    def bases(self, interval: Interval) -> str:
        """The bases of an interval, their case kept; DataError where there is no such sequence."""
        for _, (name, _), parts in self._sequences(Faults(), {}):
            if name == interval.chromosome:
                chosen = within(parts, [(interval.start, interval.end)])
                return b"".join(bases for _, bases in chosen).decode("ascii", "replace")
        raise DataError(f"{self.path}: there is no sequence {interval.chromosome!r}")

    def notices(self) -> Iterator[str]:
        for key, verb in (("intervals", "read"), ("exclude_intervals", "left out")):
            read = _read(getattr(self, key))
            if read is not None:
                yield f"{getattr(self, key)}: {_described(read, verb)}"

    def _sequences(self, faults: Faults, sizes: dict[str, int]) -> Iterator[tuple[Path, tuple[str, int], Parts]]:
        """(file, name and line, bases) of each sequence, whose size is in `sizes` once its bases have come."""
        for path in self.files():
            fault = partial(_add, faults, path)
            chunks = _measured(self.chunks(path, fault), sizes)
            for (name, line), own in groupby(chunks, key=lambda chunk: (chunk.name, chunk.line)):
                yield path, (name, line), ((chunk.start, chunk.bases) for chunk in own)


def _measured(chunks: Iterator[Chunk], sizes: dict[str, int]) -> Iterator[Chunk]:
    for chunk in chunks:
        sizes[chunk.name] = chunk.start + len(chunk.bases)
        yield chunk


def _add(faults: Faults, path: Path, line: int, text: str) -> None:
    faults.add(f"{path}:{line}: {text}")


def _read(paths: str | list[str] | None) -> Intervals | None:
    if not paths:
        return None
    return read_intervals((str(path), lines(path)) for path in resolve(paths))


def _described(read: Intervals, verb: str) -> str:
    merged = f", {read.num_merged:,} overlap or touch others and are merged" if read.num_merged else ""
    strand = "; their strands are ignored (data.reverse_complement reads the minus strand)" if read.has_strand else ""
    chosen = f"{read.num_rows:,} intervals, {read.num_bases:,} bases of {few(read.spans)}, are {verb}"
    return chosen + merged + strand


def must_be_apart(key: str, one: Genome, train: Genome) -> None:
    """ConfigError if a split chooses bases of a genome that the training data have too, and either chooses a part."""
    same = {path.resolve() for path in one.files()} & {path.resolve() for path in train.files()}
    mine, theirs = one.selection(), train.selection()
    if not same or (mine.is_all and theirs.is_all):
        return
    whole = Genome.choice_of_all() | {"path": sorted(map(str, same)), "left_out": []}
    sizes = {name: size for _, name, size in one.model_copy(update=whole).sizes()}
    both = list(shared(mine, theirs, sizes))
    if both:
        count = sum(min(end, sizes[name]) - start for name, (start, end) in both)
        name, (start, end) = both[0]
        raise ConfigError(
            [
                f"{key}: has {count:,} bases that data.train has too, first {name}:{start}-{min(end, sizes[name])}; "
                f"leave them out of one ({', '.join(Genome.choice)})"
            ]
        )
