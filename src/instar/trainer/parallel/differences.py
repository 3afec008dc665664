"""What differs from rank to rank, in words: a line for each value that is not the usual one."""

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instar.core.files.json_files import from_json, to_json

MOST_NAMED = 8
"""Ranks that a line names, and lines; more are counted."""


@dataclass(frozen=True)
class Said:
    """What one rank says of itself."""

    rank: int
    host: str
    value: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How a message names the rank."""
        return f"rank {self.rank} on {self.host}"


def message_of(value: Mapping[str, Any]) -> bytes:
    """What this rank sends to say a value."""
    return to_json({"host": socket.gethostname(), "value": value})


def said(messages: Sequence[bytes]) -> list[Said]:
    """What ranks said, from their messages in order."""
    found = [from_json(message) for message in messages]
    return [Said(rank, one["host"], one["value"]) for rank, one in enumerate(found)]


def differences(ranks: Sequence[Said]) -> str:
    """Lines about the facts (name: value) that ranks do not share; empty where all are equal.

    Expected is what most ranks have, or what the main process has where as many have another value.
    """
    names = dict.fromkeys(name for rank in ranks for name in rank.value)
    return few([line for name in names for line in _lines(name, ranks)])


def _lines(name: str, ranks: Sequence[Said]) -> list[str]:
    values = [rank.value.get(name, "nothing") for rank in ranks]
    counts = Counter(values)
    usual = max(counts, key=lambda value: (counts[value], value == values[0]))
    odd: dict[str, list[str]] = {}
    for rank, value in zip(ranks, values, strict=True):
        if value != usual:
            odd.setdefault(value, []).append(rank.name)
    return [f"  {name}: expected {usual}; {listed(those)}: got {value}" for value, those in odd.items()]


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def few(lines: Sequence[str]) -> str:
    """The first lines, and how many more there are."""
    more = [f"  and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return "\n".join([*lines[:MOST_NAMED], *more])
