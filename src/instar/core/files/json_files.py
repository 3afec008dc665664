"""Small values on the disk: JSON files, replaced whole, and logs of one JSON object a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from instar.core.errors import CheckpointError, DataError, InstarError
from instar.core.files.durable import replace_bytes
from instar.core.files.plain import read_plain
from instar.core.limits import raise_if_limited


def to_json(value: object) -> bytes:
    """The one text of a value: keys sorted, floats exact, ASCII.

    ValueError for a number that is not finite, TypeError for what JSON does not have (so also keys that are no text).
    """
    _refuse_other_keys(value)
    text = json.dumps(value, sort_keys=True, allow_nan=False, indent=1)
    return text.encode("ascii") + b"\n"


def from_json(content: bytes) -> Any:
    """The value of a JSON text; ValueError for duplicate keys, NaN, Infinity, bad UTF-8 or absurd nesting."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_other_keys(value: object) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys are text, and would not come back as they went; got {key!r}")
            _refuse_other_keys(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_other_keys(inner)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def write_json(path: Path, value: object) -> None:
    """`path` holds the old value or this one at every moment; a number that is not finite is refused."""
    try:
        content = to_json(value)
    except (TypeError, ValueError) as error:
        raise InstarError(f"{path}: cannot be written as JSON: {error}") from error
    replace_bytes(path, content)


def read_json(path: Path) -> Any:
    """The value that `write_json` wrote; CheckpointError names the file and what is wrong with it."""
    try:
        return from_json(read_plain(path))
    except OSError as error:
        raise_if_limited(error)
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not the JSON that was written: {error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a log; a torn last line (its writer was killed) is left out, a missing file is empty.

    DataError names the line of any other fault.
    """
    try:
        lines = read_plain(path).splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise_if_limited(error)
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        torn = number == len(lines) and not line.endswith(b"\n")
        try:
            value = from_json(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(f"{path}:{number}: wanted one JSON object; {error}") from error
        if torn:
            break
        if not isinstance(value, dict):
            raise DataError(f"{path}:{number}: wanted one JSON object; got {type(value).__name__}")
        found.append(value)
    return found
