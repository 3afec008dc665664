"""Genomes as text."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from instar.core.files.reading import byte_blocks
from instar.data.source.genome import Genome
from instar.genome.fasta import Chunk, Fault, read_chunks


class Fasta(Genome):
    """Nucleotide records, plain, gzip (also as bgzip writes it) or Zstandard; a line may be of any length."""

    endings: ClassVar[tuple[str, ...]] = (".fa", ".fasta", ".fna", ".fas", ".ffn", ".frn")

    kind: Literal["fasta"] = "fasta"

    def chunks(self, path: Path, fault: Fault) -> Iterator[Chunk]:
        yield from read_chunks(byte_blocks(path), fault)
