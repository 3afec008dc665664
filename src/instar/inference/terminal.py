"""Texts of any content, for a terminal."""

from typing import Any

MOST_CHARACTERS = 240


def plain(value: Any) -> str:
    """The value as text, control characters as blanks, cut at MOST_CHARACTERS."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
