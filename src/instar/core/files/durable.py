"""Small durable steps on the disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from instar.core.errors import DiskError
from instar.core.files.disk import disk_errors
from instar.core.files.temporary import remove, remove_leftovers, sync_folder, unique_name


def sync_file(path: Path) -> None:
    """Return once the bytes of a file are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
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
    temporary = unique_name(path)
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
    temporary = unique_name(path)
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

    `final` is absent or empty before. Who fills it syncs the files. What killed processes left is removed.
    """
    temporary, parent = unique_name(final), final.parent
    is_new = not parent.exists()
    try:
        with disk_errors(final):
            parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(final)
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


def free_name(path: Path) -> Path:
    """`path`, or the first of `path.1`, `path.2`, ... that does not exist."""
    number, candidate = 0, path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}.{number}")
    return candidate
