"""JSON objects with a checksum of their own content."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_KEY = "sha256"


def with_checksum(value: Mapping[str, Any]) -> dict[str, Any]:
    """The object and the SHA-256 of its JSON text, which covers every field."""
    return {**value, _KEY: _digest(value)}


def without_checksum(value: object) -> dict[str, Any]:
    """The object that `with_checksum` was given, read back from JSON; ValueError if any field is another."""
    if not isinstance(value, dict):
        raise ValueError(f"expected an object; got {type(value).__name__}")
    fields = {name: part for name, part in value.items() if name != _KEY}
    if _KEY not in value:
        raise ValueError("it has no checksum")
    if value[_KEY] != _digest(fields):
        raise ValueError("its content is not what was written: the checksum differs")
    return fields


def _digest(value: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(value))  # tuples are lists, as they come back
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
