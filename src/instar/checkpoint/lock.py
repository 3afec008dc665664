"""One run folder, one run."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from instar.checkpoint.values import read_json, write_json
from instar.core.disk import disk_errors
from instar.core.errors import CheckpointError, OutputError
from instar.core.plain_file import must_be_plain
from instar.core.rundir import RunFolder


class RunLock:
    """Holds a run folder for one process; the system frees it when the process is gone, however it went."""

    @staticmethod
    @contextmanager
    def acquire(run: RunFolder) -> Iterator[None]:
        """Hold the run while the context lasts; OutputError names host and process of a run that holds it already.

        With several ranks, rank 0 alone asks. Never waits longer than a second.
        """
        with disk_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            # the name of the lock stays: a lock whose file was removed guards nothing
            must_be_plain(run.lock)
            lock = FileLock(run.lock, timeout=0, thread_local=False, preserve_lock_file=True)
            try:
                lock.acquire()
            except Timeout:
                raise OutputError(_held(run)) from None
        try:
            write_json(run.holder, _self())
            yield
        finally:
            lock.release()


def _self() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "started": datetime.now(UTC).isoformat("T", "seconds"),
    }


def _held(run: RunFolder) -> str:
    for _ in range(10):
        try:
            holder = read_json(run.holder)
            return (
                f"{run.path}: held by process {holder['process']} on {holder['host']} since {holder['started']}; "
                "wait for it, stop it, or choose another output folder"
            )
        except (CheckpointError, KeyError, TypeError):
            time.sleep(0.05)  # the holder has the lock and has not said its name yet
    return f"{run.path}: held by another run that is just starting; choose another output folder"
