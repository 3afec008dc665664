"""One document, as every source gives it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what is known of it."""

    text: str
    label: str | float | tuple[str, ...] | tuple[bool, ...] | None = None
    """A class, a number, the classes that hold together, or whether each class holds; None: not known."""
    name: str = ""
    """The record it was cut from (the FASTA name); empty where a source has none."""
    start: int = 0
    """0-based character coordinate of `text[0]` in the record `name`."""
    file: str = ""
    """The file it was read from."""
    line: int = 0
    """Line of `file` where it begins, from 1; in a table without lines its row, from 1."""
    prompt: int = 0
    """Characters at its start that are given and not to be learnt."""
    gap: int = 0
    """Length of a record that holds nothing but N, and therefore gives no text; 0: any other document."""

    part: int = 0
    """Number of its source, from 0, in a mixture."""

    @property
    def where(self) -> str:
        """`file:line`, for messages."""
        return f"{self.file}:{self.line}"
