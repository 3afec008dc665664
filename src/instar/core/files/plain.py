"""Files of a run are plain files: a pipe in the place of one would be waited for without end."""

import errno
import os
import stat
from pathlib import Path
from typing import Any

from instar.core.errors import DataError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
)


class NotPlainError(DataError, OSError):
    """Something else stands where a file is expected; its text names it."""

    def __init__(self, path: Path, what: str) -> None:
        OSError.__init__(self, errno.EINVAL, f"it is {what}, and a file is expected; move it away", str(path))

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def must_be_plain(path: Path) -> None:
    """NotPlainError for what exists and is no file, nor a link to one; nothing for what does not exist."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise NotPlainError(path, f"a link to {path.readlink()}, which does not exist") from None
        return
    what = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if what is not None:
        raise NotPlainError(path, what)


def open_plain(path: Path, mode: str = "rb", **options: Any) -> Any:
    """`open` for a plain file: never waits for the other end of a pipe, and makes nothing behind a dangling link."""
    must_be_plain(path)
    return open(path, mode, opener=_without_waiting, **options)


def read_plain(path: Path) -> bytes:
    """The content of a plain file."""
    with open_plain(path) as file:
        content: bytes = file.read()
    return content


def _without_waiting(path: str, flags: int) -> int:
    """A pipe that came in between is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)
