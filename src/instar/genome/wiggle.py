"""Lines of bedGraph and of wiggle: which values they give to which bases, from 0 and without the end."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from instar.genome.bed import is_header
from instar.genome.coordinates import whole_number

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_KEYS: Mapping[str, tuple[str, ...]] = {
    "fixedStep": ("chrom", "start", "step", "span"),
    "variableStep": ("chrom", "span"),
}


@dataclass(frozen=True, slots=True)
class Stretch:
    """A value, and the bases that have it."""

    sequence: str
    start: int
    end: int
    value: float


@dataclass
class _Declared:
    """What a declaration of a wiggle says of the lines after it, until the next one."""

    sequence: str
    span: int
    start: int = 0
    """Where the next value of a fixed step begins, from 1."""
    step: int = 0
    """0: each line names its own start (variable step)."""


class ValueLines:
    """Reads line after line; a declaration of a wiggle holds until the next one, or until another track begins."""

    def __init__(self) -> None:
        self._declared: _Declared | None = None

    def read(self, line: str) -> Stretch | None:
        """The line's value; None for one that has none. ValueError says what is wrong with it."""
        words = line.split()
        if not words or words[0].startswith("#"):
            return None
        if is_header(line):
            self._declared = None
            return None
        if words[0] in _KEYS and all("=" in word for word in words[1:]):
            self._declared = None
            self._declared = _declaration(words)
            return None
        if self._declared is None:
            return _bedgraph(words, line)
        return _declared_value(self._declared, words, line)


def _declaration(words: list[str]) -> _Declared:
    pairs = [word.split("=", 1) for word in words[1:]]
    values = dict(pairs)
    known = _KEYS[words[0]]
    wrong = [name for name, _ in pairs if name not in known]
    missing = [name for name in known if name != "span" and not values.get(name)]
    if wrong or missing or len(values) < len(pairs):
        keys, given = ", ".join(f"{name}=" for name in known), " ".join(words[1:])[:80]
        raise ValueError(f"expected {words[0]} with {keys} each once at most (span is 1 by default); got {given!r}")
    numbers = {name: whole_number(values.get(name, "1")) for name in known if name != "chrom"}
    if not all(numbers.values()):
        raise ValueError("expected a start, a step and a span of at least 1: wiggle counts from 1")
    return _Declared(values["chrom"], **numbers)


def _bedgraph(words: list[str], line: str) -> Stretch:
    if len(words) != 4:
        raise ValueError(f"wanted CHROMOSOME START END VALUE; got {line[:60]!r}")
    try:
        return Stretch(words[0], whole_number(words[1]), whole_number(words[2]), _number(words[3]))
    except ValueError as error:
        raise ValueError(f"wanted CHROMOSOME START END VALUE; got {line[:60]!r} ({error})") from error


def _declared_value(declared: _Declared, words: list[str], line: str) -> Stretch:
    is_fixed = declared.step > 0
    if len(words) != (1 if is_fixed else 2):
        raise ValueError(f"wanted {'VALUE' if is_fixed else 'START VALUE'}, as was declared; got {line[:60]!r}")
    first = declared.start if is_fixed else whole_number(words[0])
    if first < 1:
        raise ValueError("expected a start of at least 1: wiggle counts from 1")
    declared.start += declared.step
    return Stretch(declared.sequence, first - 1, first - 1 + declared.span, _number(words[-1]))


def _number(text: str) -> float:
    if _NUMBER.fullmatch(text) is None:
        raise ValueError(f"expected a number, got {text[:40]!r}")
    return float(text)
