"""What is said when the disk refuses, and room that is reserved before it is written to."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from instar.core.errors import DiskError, OutputError

DISK_CODES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ESTALE})
_REFUSED = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
}
_CODE = re.compile(r"(?:os error|code:) (\d+)")
_ZEROS = 1 << 20


def system_code(error: BaseException) -> int | None:
    """The errno of a failed call, also where a library written in Rust has only its text."""
    if isinstance(error, OSError):
        return error.errno
    match = _CODE.search(str(error)) if type(error).__name__ in ("SafetensorError", "Exception") else None
    return int(match[1]) if match else None


@contextmanager
def disk_errors(path: Path, needed: int | None = None, whole: str = "") -> Iterator[None]:
    """Turn a full or failing disk into DiskError and a refused write at `path` into OutputError; others pass.

    The text names the path, the bytes needed (`needed`, where known) and free, and `whole`.
    """
    try:
        yield
    except Exception as error:
        code = system_code(error)
        if code in DISK_CODES:
            raise DiskError(disk_message(path, os.strerror(code or 0), needed, whole)) from error
        refused = getattr(error, "filename", None) or path
        if code in _REFUSED and _is_of(path, refused):
            raise OutputError(
                f"{path}: cannot be written: {refused}: {os.strerror(code or 0)}; "
                "make the folder writable or choose another one"
            ) from error
        raise


def _is_of(path: Path, refused: object) -> bool:
    """Whether a call on `refused` was about `path`: above, below, or a temporary name beside it."""
    if not isinstance(refused, str | os.PathLike):
        return True
    named, whole = Path(refused).absolute(), path.absolute()
    is_beside = named.parent == whole.parent and whole.name in named.name
    return named.is_relative_to(whole) or whole.is_relative_to(named) or is_beside


def disk_message(path: Path, reason: str, needed: int | None, whole: str = "") -> str:
    """What a user needs to know about a write that failed."""
    size = "" if needed is None else f"{needed:,} bytes needed, "
    text = f"{path}: {reason}: {size}{free_bytes(path):,} bytes free; free some space and start the same command"
    return f"{text}; {whole}" if whole else text


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of a path that may not exist yet."""
    above = path.absolute()
    while not os.path.exists(above) and above != above.parent:  # noqa: PTH110  `Path.exists` raises PermissionError
        above = above.parent
    try:
        return shutil.disk_usage(above).free
    except OSError:
        return 0


def must_have_room(path: Path, needed: int) -> None:
    """DiskError if the disk has fewer than `needed` bytes free."""
    if needed > free_bytes(path):
        raise DiskError(disk_message(path, os.strerror(errno.ENOSPC), needed))


def reserve(file: IO[bytes], size: int) -> None:
    """An empty file becomes `size` zero bytes that the disk has room for; OSError where it has not.

    A sparse file would have the size at once, and a program that maps it is killed (SIGBUS) when it changes a page
    that the disk has no room for. Where the file system cannot reserve, zeros are written.
    """
    try:
        if size and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
            return
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
            raise
    zeros = bytes(min(size, _ZEROS))
    for first in range(0, size, _ZEROS):
        write_all(file, zeros[: size - first])


def write_all(file: IO[bytes], content: bytes | memoryview) -> None:
    """All of it to an unbuffered file: a full disk may take a part without a word, and refuses the next."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
