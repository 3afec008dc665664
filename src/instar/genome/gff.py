"""Rows of GFF3, and of its elders GFF2 and GTF, whose attributes are written otherwise."""

import re
from collections.abc import Mapping
from urllib.parse import unquote

from instar.genome.coordinates import whole_number
from instar.genome.row import Row

_PHASES = ("0", "1", "2", ".")
_STRANDS = ("+", "-", ".", "?")
_QUOTED = re.compile(r'\s*(?P<tag>[^\s;="]+)\s+("(?P<quoted>[^"]*)"|(?P<bare>[^\s";]+))\s*(;|#|$)')


def is_gff(line: str) -> bool:
    """Whether a line has the columns of a GFF: whole numbers in the fourth and fifth, a strand in the seventh."""
    words = line.split("\t")
    return 8 <= len(words) <= 9 and words[3].isdecimal() and words[4].isdecimal() and words[6] in _STRANDS


def gff_row(line: str) -> Row:
    """What a line says, from 0 and without its end (a GFF counts from 1 and includes it); ValueError says its fault."""
    words = line.split("\t")
    if not 8 <= len(words) <= 9:
        raise ValueError(f"expected 9 columns separated by tabs, got {len(words)}: {line[:60]!r}")
    if not words[0] or not words[2]:
        raise ValueError("the column of the sequence or of the type is empty")
    start, end = whole_number(words[3]), whole_number(words[4])
    if not 1 <= start <= end:
        raise ValueError(f"expected 1 <= start <= end, got {start} and {end}")
    if words[6] not in _STRANDS:
        raise ValueError(f"expected a strand, one of + - . ?, got {words[6][:20]!r}")
    if words[7] not in _PHASES:
        raise ValueError(f"expected a phase, one of 0 1 2 ., got {words[7][:20]!r}")
    column = words[8] if len(words) > 8 else ""
    is_old = _QUOTED.match(column) is not None
    attributes = _quoted(column) if is_old else _attributes(column)
    strand = "." if words[6] == "?" else words[6]
    if is_old:
        name = next((attributes[tag] for tag in ("gene_name", "gene_id", "transcript_id") if attributes.get(tag)), "")
        return Row(words[0], ((start - 1, end),), words[2], name=name, strand=strand)
    return Row(
        words[0],
        ((start - 1, end),),
        unquote(words[2]),
        name=attributes.get("Name") or attributes.get("ID") or "",
        strand=strand,
        identity=attributes.get("ID", ""),
        is_circular=attributes.get("Is_circular", "").lower() == "true",
    )


def _attributes(column: str) -> Mapping[str, str]:
    """GFF3: tag=value, separated by semicolons; what is escaped as %3B is decoded after they were split."""
    pairs = (part.split("=", 1) for part in column.split(";") if "=" in part)
    return {unquote(tag.strip()): unquote(value.strip()) for tag, value in pairs}


def _quoted(column: str) -> Mapping[str, str]:
    """GFF2 and GTF: tag "value"; a quoted value may hold semicolons. The first of a tag that is repeated is kept."""
    found: dict[str, str] = {}
    for match in _QUOTED.finditer(column):
        quoted = match["quoted"]
        found.setdefault(match["tag"], match["bare"] if quoted is None else quoted)
    return found
