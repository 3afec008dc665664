"""Rows of BED: 3 to 12 columns, and what is made of them (narrowPeak, broadPeak, gappedPeak)."""

import itertools

from instar.genome.coordinates import whole_number
from instar.genome.row import Row

_BLOCKS = 12
"""Columns of a row that has blocks."""
UNNAMED = "feature"


def is_bed(line: str) -> bool:
    """Whether a line has the columns of a BED: whole numbers in the second and third."""
    words = columns_of(line)
    return len(words) >= 3 and words[1].isdecimal() and words[2].isdecimal()


def is_header(line: str) -> bool:
    """Whether a line is one that a browser reads (`track ...`, `browser ...`), and no row of a sequence so named."""
    return line.split(None, 1)[:1] in (["track"], ["browser"]) and not is_bed(line)


def columns_of(line: str) -> list[str]:
    """Separated by tabs, where there is a tab (a name may hold blanks then), else by blanks."""
    return [word.strip() for word in line.split("\t")] if "\t" in line else line.split()


def bed_row(line: str) -> Row:
    """What a line says; start = end is a position between two bases. ValueError says what is wrong.

    The parts of a row with blocks (12 columns) are its blocks.
    """
    words = columns_of(line)
    if len(words) < 3:
        raise ValueError(f"expected SEQUENCE START END, separated by tabs or blanks; got {line[:60]!r}")
    if not words[0]:
        raise ValueError("the column of the sequence is empty")
    start, end = whole_number(words[1]), whole_number(words[2])
    if start > end:
        raise ValueError(f"expected start <= end, got {start} and {end}")
    name = words[3] if len(words) > 3 and words[3] != "." else ""
    strand = words[5] if len(words) > 5 and words[5] in ("+", "-") else "."
    parts = _blocks(words, start, end) if len(words) >= _BLOCKS and _has_blocks(words) else ((start, end),)
    return Row(words[0], parts, name or UNNAMED, name=name, strand=strand)


def _has_blocks(words: list[str]) -> bool:
    """Whether columns 7 and 8 are the thick part, as in BED12; other tables have as many columns."""
    return words[6].isdecimal() and words[7].isdecimal() and words[9].isdecimal()


def _blocks(words: list[str], start: int, end: int) -> tuple[tuple[int, int], ...]:
    count = whole_number(words[9])
    sizes, starts = (_numbers(words[column]) for column in (10, 11))
    if len(sizes) != count or len(starts) != count or not count:
        raise ValueError(f"expected {count} block sizes and starts, got {len(sizes)} and {len(starts)}")
    parts = tuple((start + first, start + first + size) for first, size in zip(starts, sizes, strict=True))
    if any(later[0] < before[1] for before, later in itertools.pairwise(parts)):
        raise ValueError("the blocks overlap, or are out of order")
    if parts[0][0] != start or parts[-1][1] != end:
        raise ValueError(f"the blocks span {parts[0][0]}-{parts[-1][1]}, expected {start}-{end} as the row does")
    return parts


def _numbers(text: str) -> list[int]:
    """Numbers separated by commas; one may follow the last."""
    return [whole_number(word.strip()) for word in text.removesuffix(",").split(",")]
