"""A study in one file that several processes append to, and that outlives all of them."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

SUFFIX = ".journal"


class Journal:
    """The file of a study, its locks, and which of its trials are alive.

    Locks are held on files, by the system: whoever dies lets go of them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._alive: dict[int, FileLock] = {}
        self.lock = _lock(path.with_name(f".{path.name}.lock"))
        with self.lock:
            _cut_torn_line(path)

    def storage(self) -> Any:
        """Optuna's storage in the file."""
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        return JournalStorage(JournalFileBackend(str(self.path), lock_obj=_ForOptuna(self.path)))

    def begin(self, number: int) -> None:
        """This process runs a trial."""
        lock = _lock(self._place(number))
        lock.acquire()
        self._alive[number] = lock

    def end(self, number: int) -> None:
        """It does no more."""
        lock = self._alive.pop(number)
        self._place(number).unlink(missing_ok=True)
        lock.release()

    def is_alive(self, number: int) -> bool:
        """Whether some process runs that trial."""
        if number in self._alive:
            return True
        if not self._place(number).exists():
            return False
        lock = _lock(self._place(number))
        try:
            with lock.acquire(timeout=0):
                self._place(number).unlink(missing_ok=True)
                return False
        except Timeout:
            return True

    def _place(self, number: int) -> Path:
        return self.path.with_name(f".{self.path.name}.trial-{number}.lock")


class _ForOptuna:
    """The lock that Optuna takes for each record; its own is a file that a killed process leaves behind."""

    def __init__(self, path: Path) -> None:
        self._lock = _lock(path.with_name(f".{path.name}.write-lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _lock(path: Path) -> FileLock:
    return FileLock(path, thread_local=False, preserve_lock_file=True)


def _cut_torn_line(path: Path) -> None:
    """Take off a last line without its end, which a process that was killed amid writing leaves."""
    with suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())
