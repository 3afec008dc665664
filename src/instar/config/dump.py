"""A resolved value as YAML, with the origin of each part beside it."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from instar.config.load import Loaded
from instar.config.tree import resolve

T = TypeVar("T")

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+-]*(?: [A-Za-z0-9_./+-]+)*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}


def dump(loaded: Loaded[T]) -> str:
    """Every value written out, with its origin as a comment; `load` reads it back to an equal value."""
    plain = TypeAdapter(type(loaded.value)).dump_python(loaded.value, mode="json", by_alias=True)
    return "\n".join(_lines(plain, "", 0, loaded.origins)) + "\n"


def _lines(plain: Any, key: str, depth: int, origins: Mapping[str, str]) -> Iterator[str]:
    indent = "  " * depth
    entries = plain.items() if isinstance(plain, dict) else enumerate(plain)
    for name, value in entries:
        inner = f"{key}.{name}" if key else str(name)
        head = f"{indent}{scalar(name)}:" if isinstance(plain, dict) else f"{indent}-"
        if _holds_others(value):
            yield head
            yield from _lines(value, inner, depth + 1, origins)
        else:
            comment = _one_line(origins.get(inner, "default"))
            yield f"{head} {_leaf(value)}  # {comment}"


def _holds_others(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(entry, dict | list) for entry in value)
    return isinstance(value, dict) and bool(value)


def _leaf(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    return f"[{', '.join(map(scalar, value))}]" if isinstance(value, list) else scalar(value)


def _one_line(origin: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in origin)


def scalar(value: Any) -> str:
    """A scalar as YAML 1.2: quoted unless it can be read in one way only."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and isinstance(resolve(value), str):
        return str(value)
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
