"""FASTA: nucleotide records, checked as they are read.

Works on lines, so that whoever opens the file decides about compression and limits.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

NUCLEOTIDES = b"ACGTUNRYSWKMBDHV"
"""IUPAC letters of nucleotides; lower case marks repeats and is allowed too."""
_VALID = NUCLEOTIDES + NUCLEOTIDES.lower() + b" \t"
_BLANKS = b" \t"


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `sequence` keeps its case."""

    name: str
    sequence: str
    line: int
    """Line of the header, from 1."""


def read_records(lines: Iterable[tuple[int, bytes]], fault: Callable[[int, str], None]) -> Iterator[Record]:
    """The records of numbered lines, each whole in memory; what is wrong goes to `fault(line, text)`.

    A fault is: sequence before the first header, a header without a name, a name that came
    before, a record without sequence, a letter that is no nucleotide (told once a record).
    """
    seen: set[str] = set()
    name: str | None = None
    header = 0
    pieces: list[bytes] = []
    bad = False
    for number, line in lines:
        if line.startswith(b">"):
            if name is not None:
                yield from _finished(name, header, pieces, fault)
            name, header, pieces, bad = _name(line, number, seen, fault), number, [], False
            continue
        extra = line.translate(None, _VALID)
        if not line.strip():
            continue
        if name is None:
            fault(number, "sequence before the first header; a record begins with a line like '>chr1'")
            name, bad = "", True
        if extra and not bad:
            bad = True
            fault(number, _bad_letters(name, extra))
        pieces.append(line.translate(None, _BLANKS))
    if name is not None:
        yield from _finished(name, header, pieces, fault)


def _name(line: bytes, number: int, seen: set[str], fault: Callable[[int, str], None]) -> str:
    words = line[1:].decode("utf-8", "replace").split()
    name = words[0] if words else ""
    if not name:
        fault(number, "the header has no name after '>'")
    elif name in seen:
        fault(number, f"the name '{name}' came before; every record needs a name of its own")
    seen.add(name)
    return name


def _bad_letters(name: str, extra: bytes) -> str:
    letters = sorted(set(extra.decode("utf-8", "replace")))
    shown = " ".join(letters[:10])
    hint = "; this looks like protein, and DNA is wanted" if set("EFILPQ") & {x.upper() for x in letters} else ""
    return f"record '{name}' has letters that are no nucleotides: {shown}{hint}"


def _finished(name: str, header: int, pieces: list[bytes], fault: Callable[[int, str], None]) -> Iterator[Record]:
    sequence = b"".join(pieces).decode("ascii", "replace")
    if sequence:
        yield Record(name, sequence, header)
    elif header:
        fault(header, f"record '{name}' has no sequence")


def as_dna(text: str) -> str:
    """Bases as a tokenizer sees them: upper case, and T where RNA has U."""
    return text.upper().replace("U", "T")


def without_gaps(sequence: str, min_gap: int = 1) -> Iterator[tuple[int, str]]:
    """(0-based start, piece) of what lies between runs of at least `min_gap` N, in order."""
    at = 0
    for gap in re.finditer(f"[Nn]{{{min_gap},}}", sequence):
        if gap.start() > at:
            yield at, sequence[at : gap.start()]
        at = gap.end()
    if at < len(sequence):
        yield at, sequence[at:]
