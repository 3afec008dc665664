"""One document, as every source gives it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Document:
    """A text and what is known of it."""

    text: str
    label: str | float | tuple[str, ...] | None = None
    """A class, a number, or the classes that hold together."""
    name: str = ""
    """The record it was cut from (the FASTA name); empty where a source has none."""
    start: int = 0
    """0-based character coordinate of `text[0]` in the record `name`."""
    place: str = ""
    """`file:line`, for messages."""
    prompt: int = 0
    """Characters at its start that are given and not to be learnt."""
