"""Rows of answers on the disk."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from instar.core.errors import DataError
from instar.core.files.disk import disk_errors
from instar.core.files.temporary import unique_name


def must_be_text(text: str, what: str) -> None:
    """DataError if a command line or a pipe gave bytes that are no UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{what} is not UTF-8 text (at character {error.start})") from None


def write_rows(output: Path, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Write each row as a line of JSON and hand it on; the file has its name when all are there, else it is gone."""
    temporary = unique_name(output)
    try:
        with disk_errors(output):
            with temporary.open("x", encoding="utf-8") as file:
                for row in rows:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    yield row
            temporary.rename(output)
    finally:
        temporary.unlink(missing_ok=True)
