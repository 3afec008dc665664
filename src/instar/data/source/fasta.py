"""Genomes."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from instar.data.document import Document
from instar.data.files import Faults, byte_lines
from instar.data.source.base import FileSource
from instar.genome.fasta import as_dna, read_records, without_gaps


class Fasta(FileSource):
    """Nucleotide records, plain, gzip or Zstandard.

    Runs of N cut a record into documents, whose `start` is the 0-based coordinate in the
    record; a record of N only is one document without text. Lower case (repeats) becomes a flag
    of each token; ids are those of upper case, and of T where RNA has U. Records of different
    files may have one name; within a file each has its own.
    """

    endings: ClassVar[tuple[str, ...]] = (".fa", ".fasta", ".fna", ".fas", ".ffn", ".frn")

    kind: Literal["fasta"] = "fasta"
    min_gap: int = Field(default=1, ge=1)
    """Length of a run of N that cuts a record; a shorter one stays in the text, as unknown tokens."""

    @property
    def folds_case(self) -> bool:
        return True

    def normalized(self, text: str) -> str:
        return as_dna(text)

    def documents(self) -> Iterator[Document]:
        faults = Faults()
        for path in self.files():
            told = partial(_tell, faults, path)
            for record in read_records(byte_lines(path), told):
                known = False
                for start, piece in without_gaps(record.sequence, self.min_gap):
                    known = True
                    yield Document(piece, name=record.name, start=start, file=str(path), line=record.line)
                if not known:
                    gap = len(record.sequence)
                    yield Document("", name=record.name, file=str(path), line=record.line, gap=gap)
        faults.check()


def _tell(faults: Faults, path: Path, line: int, text: str) -> None:
    faults.add(f"{path}:{line}: {text}")
