"""One error for everything that is wrong with a set of arguments."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

_MAX_SHOWN = 60


class Fault(NamedTuple):
    """What is wrong with one argument."""

    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


class ArgumentError(ValueError):
    """Values that cannot be used, all of them; `faults` has one entry for each."""

    def __init__(self, name: str, faults: Iterable[Fault]) -> None:
        self.name = name
        self.faults = tuple(faults)
        count = f"{len(self.faults)} fault{'s' * (len(self.faults) > 1)}"
        super().__init__("\n".join([f"{name}: {count}:", *(f"  {fault}" for fault in self.faults)]))


def wanted(what: str, came: object, choices: Iterable[str] = ()) -> str:
    """What was wanted and what came; with choices also the nearest of them."""
    return f"wanted {what}; got {shown(came)}{guess(came, choices)}"


def guess(word: object, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    near = difflib.get_close_matches(str(word), list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: object) -> str:
    """A value, short enough for one line."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
