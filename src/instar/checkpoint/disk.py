"""Small durable steps on the disk."""

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.core.disk import disk_errors
from instar.core.errors import DiskError


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


@contextmanager
def publish_file(path: Path) -> Iterator[Path]:
    """A new name beside `path` to write to, which then becomes `path`; after an error or a kill `path` is as before."""
    temporary = _beside(path)
    try:
        with disk_errors(path):
            yield temporary
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def publish_folder(final: Path) -> Iterator[Path]:
    """A new folder beside `final` to fill, which then becomes `final`: all of it or nothing, also after a kill.

    `final` is absent or empty before. Who fills it syncs the files. Folders that killed processes of this machine left
    are removed.
    """
    temporary, parent = _beside(final), final.parent
    is_new = not parent.exists()
    try:
        with disk_errors(final):
            parent.mkdir(parents=True, exist_ok=True)
            _remove_left(final)
            temporary.mkdir()
            yield temporary
            sync_folder(temporary)
            temporary.rename(final)
            sync_folder(parent)
    except BaseException as error:
        remove(temporary)
        with suppress(OSError):
            if is_new:
                parent.rmdir()
        if isinstance(error, DiskError):
            raise DiskError(str(error).replace(str(temporary), str(final))) from error
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".tmp-{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}-{path.name}")


def _remove_left(final: Path) -> None:
    """Remove what processes left that began `final` on this machine and are gone."""
    start, end = re.escape(f".tmp-{socket.gethostname()}-"), re.escape(f"-{final.name}")
    left = re.compile(f"{start}([0-9]{{1,10}})-[0-9a-f]{{8}}{end}")
    for path in list(final.parent.iterdir()):
        match = left.fullmatch(path.name)
        if match is not None and not _is_running(int(match[1])):
            remove(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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
