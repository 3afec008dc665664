"""The right to write a folder, kept by signs of life: who shows none for a limit loses it.

A file lock is not enough on a shared file system: some mounts keep the lock of a host that was lost, some give it to
everybody. So the holder's name lies in a file of the folder, and the holder touches that file. Ages are taken from the
clock of the file system, which stamps both the sign of life and the time of asking.
"""

import errno
import hashlib
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from instar.core.errors import OutputError
from instar.core.files.durable import replace_bytes
from instar.core.files.json_files import from_json, to_json
from instar.core.files.temporary import clock_of, is_dead, machine, start_of, unique_name

LEASE_SECONDS = 300.0
"""Without a sign of life for so long, a holder has lost the folder."""
_RENEWALS = 15  # in the time of a lease
_LONGEST = 3600.0
_CLAIM = ".tmp-claim-"
_CLAIM_SECONDS = 10.0
"""A claim is held for a moment; one that is older is of a process that is gone, or it finds out before it writes."""
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
_held: dict[str, "Lease"] = {}


@dataclass(frozen=True)
class Standing:
    """What the file of a lease says at one moment; `content` is None where there is no file."""

    content: bytes | None
    modified: float = 0.0
    age: float = 0.0
    """Seconds since the last sign of life."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the holder wrote; empty where it cannot be read."""
        try:
            value = from_json(self.content or b"")
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def seconds(self) -> float:
        """The limit that the holder goes by."""
        value = self.facts.get("lease_seconds")
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            return LEASE_SECONDS
        return min(float(value), _LONGEST)

    @property
    def is_free(self) -> bool:
        """Nobody holds the folder, or its holder has given it back."""
        return self.content is None or self.facts.get("released") is True

    @property
    def is_dead(self) -> bool | None:
        """Whether the holder's process is gone; None where it is on another machine or not named."""
        facts = self.facts
        try:
            return is_dead(str(facts["machine"]), int(facts["process"]), int(facts["process_start"]))
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def is_expired(self) -> bool:
        """Without a sign of life for the whole limit."""
        return self.age >= self.seconds

    @property
    def holder(self) -> str:
        """Process, host, and since when."""
        facts = self.facts
        return f"process {facts.get('process', '?')} on {facts.get('host', '?')} since {facts.get('started', '?')}"

    def __str__(self) -> str:
        return f"held by {self.holder}, last sign of life {max(0.0, self.age):.0f} s ago"


class Watch:
    """Looks at a lease time and again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[bytes | None, float] | None = None
        self._since = 0.0

    def look(self) -> Standing:
        """What stands there now.

        The age is that by the file system's clock, or the time for which this watch has seen no change: that is right
        also where the clock was set back meanwhile.
        """
        seen = _read(self._path)
        if seen != self._last:
            self._last, self._since = seen, _now()
        content, modified = seen
        if content is None:
            return Standing(None)
        age = max(clock_of(self._path.parent) - modified, _now() - self._since)
        return Standing(content, modified, age)


class Lease:
    """This process's right to write a folder, renewed by a thread until it is released."""

    def __init__(self, path: Path, content: bytes, seconds: float) -> None:
        """`content` stands in the file `path` by now."""
        self._path, self._content, self._seconds = path, content, seconds
        self._renewed = _now()
        self._lost = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_over, name="lease", daemon=True)
        _held[_key(path.parent)] = self
        self._thread.start()

    def check(self, *, surely: bool = False) -> None:
        """OutputError if another process holds the folder by now.

        Asks the file system only where the last renewal is not so recent that nobody can have taken the folder, or
        `surely`.
        """
        if not surely and not self._lost and _now() < self._renewed + self._seconds / 2:
            return
        self._renew()
        if self._lost:
            raise OutputError(self._lost)

    def release(self) -> None:
        """Others may write the folder now; nothing happens where they do already."""
        self._over.set()
        self._thread.join(timeout=1)
        _held.pop(_key(self._path.parent), None)
        with suppress(OSError):
            if _read(self._path)[0] != self._content:
                return
        released = to_json({**from_json(self._content), "released": True})
        try:
            replace_bytes(self._path, released)
        except Exception:  # noqa: BLE001  a full disk: without the file the folder is free as well
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _renew_until_over(self) -> None:
        while not self._over.wait(self._seconds / _RENEWALS) and not self._lost:
            self._renew()

    def _renew(self) -> None:
        """Show a sign of life, or find out that the folder is lost; a file system that does not answer is neither."""
        if self._lost:
            return
        asked = _now()
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                content = os.read(descriptor, 1 << 16)
                if content == self._content:
                    os.utime(descriptor)
                    self._renewed = asked
                else:
                    self._lost = self._message(f"held by {Standing(content).holder}")
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                self._lost = self._message(f"{self._path.name} is gone")
            elif asked > self._renewed + self._seconds:
                self._lost = self._message(f"{self._path.name} cannot be read ({error.strerror})")

    def _message(self, why: str) -> str:
        silent = _now() - self._renewed
        return (
            f"{self._path.parent}: this process no longer holds the folder: {why}; it showed no sign of life for "
            f"{silent:.0f} s, and the limit is {self._seconds:.0f} s; nothing more is written here"
        )


def must_hold(folder: Path, *, surely: bool = False) -> None:
    """OutputError if this process held the folder and has lost it; nothing where it never held it."""
    lease = _held.get(_key(folder))
    if lease is not None:
        lease.check(surely=surely)


def take(path: Path, seen: Standing) -> Lease | None:
    """A lease in the file `path`; None where what stands there is no longer what was `seen`.

    Of several processes that saw the same, one gets it: each first makes a file whose name says what it saw.
    """
    content = to_json(_self())
    claim = path.with_name(f"{_CLAIM}{hashlib.sha256(seen.content or b'').hexdigest()[:16]}")
    if not _claims(claim, content):
        return None
    try:
        if _read(path) != (seen.content, seen.modified) or _read(claim)[0] != content:
            return None
        replace_bytes(path, content)
        lease = Lease(path, content, LEASE_SECONDS)
    finally:
        claim.unlink(missing_ok=True)
    for left in path.parent.glob(f"{_CLAIM}*"):
        _remove_if_abandoned(left)
    return lease


def _claims(claim: Path, content: bytes) -> bool:
    """Whether this process has made the file `claim`, which holds `content` from its first moment on."""
    mine = unique_name(claim)
    try:
        _write(mine, content)
        os.link(mine, claim)
    except FileExistsError:
        _remove_if_abandoned(claim)
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _claims_without_link(claim, content)
    finally:
        mine.unlink(missing_ok=True)
    return True


def _claims_without_link(claim: Path, content: bytes) -> bool:
    """The same where the file system has no hard links; a moment passes in which the file is empty."""
    try:
        _write(claim, content)
    except FileExistsError:
        _remove_if_abandoned(claim)
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    """A new file that is on the disk: whose claim it is can be read after a loss of power too."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _remove_if_abandoned(claim: Path) -> None:
    """Delete the claim of a process that was killed within the moment in which it has one."""
    with suppress(FileNotFoundError):
        content, modified = _read(claim)
        if Standing(content).is_dead or clock_of(claim.parent) - modified > _CLAIM_SECONDS:
            claim.unlink()


def _self() -> dict[str, Any]:
    process = os.getpid()
    return {
        "host": socket.gethostname(),
        "process": process,
        "started": datetime.now(UTC).isoformat("T", "seconds"),
        "machine": machine(),
        "process_start": start_of(process) or 0,
        "lease_seconds": LEASE_SECONDS,
        "lease": os.urandom(8).hex(),
    }


def _read(path: Path) -> tuple[bytes | None, float]:
    """(content, time of the last sign of life); a file that is opened is asked for at the server, not in a cache."""
    try:
        with path.open("rb") as file:
            return file.read(), os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None, 0.0


def _now() -> float:
    """Seconds that pass also while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _key(folder: Path) -> str:
    return os.path.abspath(folder)  # noqa: PTH100  links stay as they are, and the disk is not asked
