"""Files of a report: whole or absent, and harmless in a spreadsheet."""

import csv
import errno
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from instar.core.errors import DiskError, OutputError
from instar.core.temporary import remove, unique_name

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


def write_file(path: Path, content: bytes) -> None:
    """Put a file in place at once, making its folder; raises DiskError or OutputError, the old file still whole."""
    temporary = unique_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        remove(temporary)
        kind = DiskError if error.errno in _DISK_FAULTS else OutputError
        advice = "free some space" if kind is DiskError else "check the folder's rights"
        raise kind(
            f"{path}: cannot be written: {error.strerror}; {advice} and ask again (the run itself was only read)"
        ) from error


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
