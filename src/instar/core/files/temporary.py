"""Names in folders that several hosts share, and which leftovers there may be deleted.

A process id means little on a shared file system: containers and hosts repeat it. And a file lock excludes nobody on
some network mounts, so that a folder that lies about may be one that another host is filling.
"""

import errno
import functools
import glob
import hashlib
import os
import platform
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OLD_SECONDS = 24 * 60 * 60
"""A leftover of a process that cannot be looked at is deleted once nothing in it was written for so long."""
SILENT_SECONDS = 300
"""A process that holds a lock and writes nothing for so long is not waited for."""
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_LONGEST_NAME = 255  # bytes, on the file systems that are in use
_SUFFIX = 32
_ATTEMPTS = 20
_OWNER = re.compile(r"-([0-9a-f]{12})-([0-9]+)-([0-9]+)-[0-9a-f]{8}(?:[.].*)?$")


def unique_name(path: Path, prefix: str = ".tmp-") -> Path:
    """A name beside `path` that no other process on any host takes; it holds its process and keeps the suffix."""
    suffix = "".join(path.suffixes)  # writers go by it
    ending = f"-{machine()}-{os.getpid()}-{start_of(os.getpid()) or 0}-{os.urandom(4).hex()}{suffix[-_SUFFIX:]}"
    room = _LONGEST_NAME - len(os.fsencode(prefix + ending))
    return path.with_name(prefix + os.fsdecode(os.fsencode(path.name)[:room]) + ending)


@functools.cache
def machine() -> str:
    """12 hexadecimal digits, equal where process ids mean the same processes: host, boot and process namespace."""
    facts = [platform.node()]
    try:
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        facts.append(hex(uuid.getnode()))
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]


def start_of(process: int) -> int | None:
    """When a process of this machine began, in the kernel's ticks; -1 once it has ended, None where that is unknown."""
    try:
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        return -1 if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return None


def is_dead(machine_of: str, process: int, start: int) -> bool | None:
    """Whether a process is gone, its number perhaps another one's by now; None for one of another machine."""
    if machine_of != machine():
        return None
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    now = start_of(process)
    return now is not None and start not in (0, now)


def clock_of(folder: Path) -> float:
    """Seconds by the clock of the folder's file system, which stamps files; clocks of hosts differ from it."""
    probe = unique_name(folder / "clock")
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def is_left_over(path: Path) -> bool:
    """Whether nobody writes `path` any more: its process is dead, or nothing in it was written for a day."""
    owner = _OWNER.search(path.name)
    if owner is not None:
        dead = is_dead(owner[1], int(owner[2]), int(owner[3]))
        if dead is not None:
            return dead
    try:
        return clock_of(path.parent) - _last_written(path) > OLD_SECONDS
    except OSError:
        return False


def _last_written(path: Path) -> float:
    newest = path.lstat().st_mtime
    for inside in path.rglob("*") if path.is_dir() and not path.is_symlink() else ():
        with suppress(FileNotFoundError):
            newest = max(newest, inside.lstat().st_mtime)
    return newest


def remove(path: Path) -> None:
    """A file or a folder with all it holds is gone, as far as the system lets us; never raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink(missing_ok=True)


def remove_leftovers(final: Path) -> None:
    """Delete what dead processes left of `final`, and what is old; never what another process may be writing."""
    for entry in final.parent.glob(f".tmp-{glob.escape(final.name)}-*"):
        if is_left_over(entry):
            remove(entry)


def publish_unless_whole(temporary: Path, final: Path, is_whole: Callable[[Path], bool]) -> None:
    """`final` is a whole folder when this returns: `temporary`, or one that another process published first.

    Correct without any lock, since only renaming publishes. A damaged `final` gives way.
    """
    try:
        for _ in range(_ATTEMPTS):
            try:
                temporary.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
                if is_whole(final):
                    return
                set_aside(final, is_whole)
                continue
            sync_folder(final.parent)
            return
        raise OSError(f"{final}: other processes keep putting damaged folders there")
    finally:
        remove(temporary)


@contextmanager
def courtesy_lock(final: Path) -> Iterator[None]:
    """While the context lasts, other processes that ask for the same `final` wait, where the file system locks.

    It saves work and nothing depends on it: it is not waited for longer than its holder shows a sign of life (writes
    to its temporary copy of `final`), since the lock of a host that was lost stays on some network mounts.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(final.with_name(f"{final.name}.lock"), fallback_to_soft=False)
    while True:
        try:
            lock.acquire(timeout=SILENT_SECONDS)
            break
        except Timeout:
            if not _is_being_written(final):
                break
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            break
    try:
        yield
    finally:
        if lock.is_locked:
            lock.release()


def _is_being_written(final: Path) -> bool:
    since = clock_of(final.parent) - SILENT_SECONDS
    return any(_last_written(entry) > since for entry in final.parent.glob(f".tmp-{glob.escape(final.name)}-*"))


def set_aside(final: Path, is_whole: Callable[[Path], bool]) -> None:
    """Delete a damaged folder; one that another process has put in its place meanwhile goes back."""
    aside = unique_name(final)
    try:
        final.rename(aside)
    except FileNotFoundError:
        return  # another process was first
    if is_whole(aside):
        with suppress(OSError):  # there is another one by now
            aside.rename(final)
    remove(aside)


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
