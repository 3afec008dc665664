"""Genomes in UCSC's packed form."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from instar.core.files.plain import open_plain
from instar.core.files.reading import refuse_pointer
from instar.data.source.genome import Genome
from instar.genome.fasta import Chunk, Fault
from instar.genome.twobit import read_chunks


class TwoBit(Genome):
    """Assemblies as UCSC's browser offers them (hg38.2bit): a quarter of a FASTA's size, N and lower case kept."""

    endings: ClassVar[tuple[str, ...]] = (".2bit",)
    position: ClassVar[str] = "sequence"

    kind: Literal["twobit"] = "twobit"

    def chunks(self, path: Path, fault: Fault) -> Iterator[Chunk]:
        refuse_pointer(path)
        with open_plain(path) as file:
            yield from read_chunks(file, path.stat().st_size, str(path), fault)
