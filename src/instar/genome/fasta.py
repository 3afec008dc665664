"""FASTA: nucleotide records, checked as they are read, in memory that grows neither with a line nor with a record.

Works on blocks of bytes, so that whoever opens the file decides about compression.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

NUCLEOTIDES = b"ACGTUNRYSWKMBDHV"
"""IUPAC letters of nucleotides; lower case marks repeats and is allowed too."""
_VALID = NUCLEOTIDES + NUCLEOTIDES.lower() + b" \t"
_LINES = _VALID + b"\r\n"
_BLANKS = b" \t\r\n"
MAX_HEADER = 1 << 20
"""Bytes; a longer header is a fault."""
Fault = Callable[[int, str], None]
"""Hears of what is wrong in a line (from 1)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bases of a record that lie side by side; the last of a record has no bases, and starts at the record's end."""

    name: str
    line: int
    """Line of the header, from 1; where there are no lines the number of the record, from 1."""
    start: int
    """0-based coordinate of the first base in the record."""
    bases: bytes
    """Their case is kept."""


def read_chunks(blocks: Iterable[bytes], fault: Fault) -> Iterator[Chunk]:
    """The bases of each record in order, a chunk no longer than a block; what is wrong goes to `fault(line, text)`.

    A fault is: sequence before the first header, a header without a name, a name that came
    before, a record without sequence, a letter that is no nucleotide (reported once a record).
    """
    reading = _Reading(fault)
    held = b""
    for block in blocks:
        yield from reading.take(held + block, is_last=False)
        held = reading.rest
    yield from reading.take(held, is_last=True)
    yield from reading.finish()


class _Reading:
    """Where in the file the reader is."""

    def __init__(self, fault: Fault) -> None:
        self.rest = b""
        """What the next bytes are needed for: the beginning of a header, or a carriage return."""
        self._fault = fault
        self._number = 1
        self._begins_line = True
        self._seen: set[str] = set()
        self._name: str | None = None
        self._header = self._length = 0
        self._has_bad_letters = False

    def take(self, text: bytes, *, is_last: bool) -> Iterator[Chunk]:
        """The chunks of the next bytes; `rest` is to be put before those that come then."""
        at, self.rest = 0, b""
        while at < len(text):
            if self._begins_line and text[at : at + 1] == b">":
                end = text.find(b"\n", at)
                if end < 0 and not is_last:
                    self.rest = text[at : at + MAX_HEADER + 1]
                    return
                end = len(text) if end < 0 else end
                yield from self._begin(text[at:end])
                at = end + 1
                continue
            found = text.find(b"\n>", at)
            end = len(text) if found < 0 else found + 1
            if text.endswith(b"\r", at, end):
                end -= 1
                self.rest = b"" if is_last else b"\r"
                yield from self._sequence(text[at:end])
                return
            yield from self._sequence(text[at:end])
            at = end

    def finish(self) -> Iterator[Chunk]:
        """The end of the record that is being read."""
        if self._name is not None and self._length:
            yield Chunk(self._name, self._header, self._length, b"")
        elif self._header:
            self._fault(self._header, f"record '{self._name}' has no sequence")

    def _begin(self, header: bytes) -> Iterator[Chunk]:
        yield from self.finish()
        words = header[1:].decode("utf-8", "replace").split()
        name = words[0] if words else ""
        if len(header) > MAX_HEADER:
            self._fault(self._number, f"the header is longer than {MAX_HEADER >> 20} MiB")
        elif not name:
            self._fault(self._number, "the header has no name after '>'")
        elif name in self._seen:
            self._fault(self._number, f"the name '{name}' came before; every record needs a name of its own")
        self._seen.add(name)
        self._name, self._header, self._length, self._has_bad_letters = name, self._number, 0, False
        self._number += 1

    def _sequence(self, text: bytes) -> Iterator[Chunk]:
        is_bad = bool(text.translate(None, _LINES)) or text.count(b"\r") != text.count(b"\r\n")
        bases = text.translate(None, _BLANKS)
        if self._name is None and bases:
            line = self._number + text[: len(text) - len(text.lstrip())].count(b"\n")
            self._fault(line, "sequence before the first header; a record begins with a line like '>chr1'")
            self._name, self._has_bad_letters = "", True
        if is_bad and not self._has_bad_letters:
            self._has_bad_letters = True
            self._tell_letters(text)
        self._number += text.count(b"\n")
        self._begins_line = text.endswith(b"\n") or (self._begins_line and not text)
        if bases and self._name is not None:
            yield Chunk(self._name, self._header, self._length, bases)
            self._length += len(bases)

    def _tell_letters(self, text: bytes) -> None:
        for number, line in enumerate(text.split(b"\n"), self._number):
            extra = line.removesuffix(b"\r").translate(None, _VALID)
            if extra:
                self._fault(number, _bad_letters(self._name or "", extra))
                return


def _bad_letters(name: str, extra: bytes) -> str:
    letters = sorted(set(extra.decode("utf-8", "replace")))
    shown = " ".join(letters[:10])
    hint = "; this looks like protein, and DNA is wanted" if set("EFILPQ") & {x.upper() for x in letters} else ""
    return f"record '{name}' has letters that are no nucleotides: {shown}{hint}"


def as_dna(text: str) -> str:
    """Bases as a tokenizer sees them: upper case, and T where RNA has U."""
    return text.upper().replace("U", "T")
