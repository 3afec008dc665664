"""What a row of an annotation says, whatever the format."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A feature as its file has it; `parts` are 0-based and half-open, in order, and may be empty stretches."""

    sequence: str
    parts: tuple[tuple[int, int], ...]
    kind: str
    name: str = ""
    strand: str = "."
    identity: str = ""
    """What rows of one feature share; empty: the row is a feature of its own."""
    is_circular: bool = False
    """Whether the row is the landmark of a sequence whose end is followed by its start."""
