"""Small durable steps on the disk, and what is said when one of them fails."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.core.errors import DiskError, OutputError

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}
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
_FOREIGN_CODE = re.compile(r"(?:os error|code:) (\d+)")


def sync_file(path: Path) -> None:
    """Return once the bytes of a file are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Return once the names in a folder are on the disk, where the file system can say so."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not sync folders
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """A file with this content, on the disk when this returns."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_bytes(path: Path, content: bytes) -> None:
    """`path` holds the old content or the new one, at every moment; DiskError or OutputError leaves the old."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with disk_errors(path, needed=len(content)):
            write_bytes(temporary, content)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """A file or a folder with all it holds is gone, as far as the system lets us; never raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def free_name(path: Path) -> Path:
    """`path`, or the first of `path.1`, `path.2`, ... that does not exist."""
    number, candidate = 0, path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate


def system_code(error: BaseException) -> int | None:
    """The errno of a failed call, also where a library has only its text."""
    if isinstance(error, OSError):
        return error.errno
    match = _FOREIGN_CODE.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return int(match[1]) if match else None


@contextmanager
def disk_errors(path: Path, needed: int | None = None, whole: str = "") -> Iterator[None]:
    """Turn a full or failing disk into DiskError and a refused write into OutputError; others pass.

    The text names the path, the bytes needed (`needed`, where known) and free, and `whole`.
    """
    try:
        yield
    except Exception as error:
        code = system_code(error)
        if code in _DISK:
            raise DiskError(disk_message(path, os.strerror(code or 0), needed, whole)) from error
        if code in _REFUSED:
            place = getattr(error, "filename", None) or path
            raise OutputError(
                f"{path}: cannot be written: {place}: {os.strerror(code or 0)}; "
                "make the folder writable or choose another one"
            ) from error
        raise


def disk_message(path: Path, reason: str, needed: int | None, whole: str = "") -> str:
    """What a user needs to know about a write that failed."""
    wanted = "" if needed is None else f"{needed:,} bytes needed, "
    text = f"{path}: {reason}: {wanted}{free_bytes(path):,} bytes free; free some space and start the same command"
    return f"{text}; {whole}" if whole else text


def free_bytes(path: Path) -> int:
    """Free bytes on the disk of a path that may not exist yet."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0
