"""Files of a report: whole or absent, and harmless in a spreadsheet."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from instar.core.files.disk import disk_errors
from instar.core.files.temporary import remove, unique_name

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_file(path: Path, content: bytes) -> None:
    """Put a file in place at once, making its folder; raises DiskError or OutputError, the old file still whole."""
    temporary = unique_name(path)
    try:
        with disk_errors(path, needed=len(content), whole="the run itself was only read"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(content)
            temporary.chmod(0o644)
            temporary.replace(path)
    finally:
        remove(temporary)


def to_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """A table as CSV; numbers come back exactly, and no text cell can act as a formula."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_cell(value) for value in header])
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) and not _is_numeric(text) else text


def _is_numeric(text: str) -> bool:
    if text != text.strip() or not text.isascii():
        return False
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
