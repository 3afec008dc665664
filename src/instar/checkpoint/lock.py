"""One run folder, one run."""

import errno
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from instar.checkpoint.lease import Lease, Standing, Watch, take
from instar.core.errors import OutputError
from instar.core.files.disk import disk_errors
from instar.core.files.plain import must_be_plain
from instar.core.files.temporary import unique_name
from instar.core.rundir import RunFolder

_log = logging.getLogger(__name__)
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}
_MOMENTS = 10
_MOMENT = 0.05
_LOOK_SECONDS = 5.0


class RunLock:
    """Holds a run folder for one process.

    On one host the system frees it when the process is gone, however it went. On several hosts it is a lease: a holder
    that shows no sign of life for `lease.LEASE_SECONDS` has lost it, and finds out before it publishes anything more.
    """

    @staticmethod
    @contextmanager
    def acquire(run: RunFolder, tell: Callable[[str], None] = _log.warning) -> Iterator[None]:
        """Hold the run while the context lasts; OutputError names host and process of a run that holds it already.

        With several ranks, rank 0 alone asks. A living holder is refused at once on the same host, and on another one
        as soon as it shows a sign of life; one that shows none is waited for until its limit, and `tell` says so.
        """
        with disk_errors(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
            for path in (run.lock, run.holder):
                must_be_plain(path)
            asker = _Asker(run, tell)
            lease = asker.lease()
        try:
            yield
        finally:
            lease.release()
            asker.unlock()


class _Asker:
    """One process that asks for a run folder."""

    def __init__(self, run: RunFolder, tell: Callable[[str], None]) -> None:
        self._run, self._tell = run, tell
        # the name of the lock stays: a lock whose file was removed guards nothing
        self._lock = FileLock(run.lock, timeout=0, thread_local=False, preserve_lock_file=True)
        self._watch = Watch(run.holder)
        self._moments = 0
        self._first: Standing | None = None

    def lease(self) -> Lease:
        while True:
            is_locked = self._is_locked()
            standing = self._watch.look()
            try:
                lease = self._asked(standing, is_locked=is_locked)
            except BaseException:
                self.unlock()
                raise
            if lease is not None:
                return lease
            self.unlock()

    def unlock(self) -> None:
        """Let go of the file's lock, where there is one."""
        if self._lock.is_locked:
            self._lock.release()

    def _is_locked(self) -> bool:
        """Whether no other process has the file's lock; also where the file system has none."""
        try:
            self._lock.acquire()
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def _asked(self, standing: Standing, *, is_locked: bool) -> Lease | None:
        """The lease; None to look once more; OutputError where another process holds the folder."""
        dead = standing.is_dead
        is_free = standing.is_free or bool(dead)
        if dead is False and not (is_free or (is_locked and standing.is_expired)):
            raise OutputError(self._held(standing))
        if is_locked and (is_free or standing.is_expired):
            return self._taken(standing)
        if not is_locked and (is_free or not standing.facts):
            self._wait_a_moment()
        elif standing.is_expired:
            self._break_lock()
        else:
            self._wait_for_life(standing)
        return None

    def _taken(self, standing: Standing) -> Lease | None:
        if not standing.is_free and not standing.is_dead:
            self._tell(f"{self._run.path}: {standing}; it is taken over")
        lease = take(self._run.holder, standing)
        if lease is None:
            time.sleep(_MOMENT)  # another process is taking it
        return lease

    def _wait_a_moment(self) -> None:
        """A process has the lock and has not said its name yet."""
        self._moments += 1
        if self._moments > _MOMENTS:
            raise OutputError(
                f"{self._run.path}: held by another run that is just starting; choose another output folder"
            )
        time.sleep(_MOMENT)

    def _break_lock(self) -> None:
        """Put another file in the lock's place: the lock of a lost host stays on some mounts, on the old file."""
        self._moments += 1
        if self._moments <= _MOMENTS:  # another process that waited may have it just now
            time.sleep(_MOMENT)
            return
        self._moments = 0
        fresh = unique_name(self._run.lock)
        try:
            fresh.touch()
            fresh.replace(self._run.lock)
        finally:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def _wait_for_life(self, standing: Standing) -> None:
        if self._first is None:
            self._first = standing
            self._tell(
                f"{self._run.path}: {standing}; waiting: it is taken over after {standing.seconds:.0f} s without one, "
                f"in {standing.seconds - standing.age:.0f} s"
            )
        elif (standing.content, standing.modified) != (self._first.content, self._first.modified):
            raise OutputError(self._held(standing))
        self.unlock()
        time.sleep(min(_LOOK_SECONDS, max(_MOMENT, standing.seconds - standing.age)))

    def _held(self, standing: Standing) -> str:
        return (
            f"{self._run.path}: {standing} (it is taken over after {standing.seconds:.0f} s without one); wait for it, "
            "stop it, or choose another output folder"
        )
