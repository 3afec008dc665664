"""A run folder on a file system of several hosts: the lost lose it, and never write into a folder they lost."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from instar.checkpoint import lease
from instar.checkpoint.lease import LEASE_SECONDS, Watch, must_hold, take
from instar.checkpoint.lock import RunLock
from instar.checkpoint.protocol import publish, rotate
from instar.core.errors import OutputError
from instar.core.files.json_files import to_json
from instar.core.files.temporary import machine, start_of
from instar.core.rundir import RunFolder
from instar.trainer.callbacks.lines import Lines

ELSEWHERE = "0" * 12
NOBODY = 2**23  # above the highest process id that Linux gives


def stand(run: RunFolder, age: float = 0.0, **facts: Any) -> None:
    """Somebody's lease, with a last sign of life that is `age` seconds old."""
    run.path.mkdir(exist_ok=True)
    known = {"host": "node7", "process": 17, "started": "2026-01-02T03:04:05+00:00", "machine": ELSEWHERE}
    known |= {"process_start": 5, "lease_seconds": 300.0, **facts}
    run.holder.write_text(json.dumps(known))
    lives(run, age)


def lives(run: RunFolder, age: float = 0.0) -> None:
    """A sign of life, `age` seconds ago by the file system's clock."""
    os.utime(run.holder)
    then = run.holder.stat().st_mtime - age
    os.utime(run.holder, (then, then))


def holder(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run.holder.read_text())
    return found


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Do something instead of each wait."""

    def _passing(instead: Callable[[], None]) -> None:
        monkeypatch.setattr(time, "sleep", lambda seconds: instead())

    return _passing


@pytest.mark.parametrize("clock", [0.0, 4e9])
def test_a_lease_without_a_sign_of_life_is_taken_over_by_the_clock_of_the_file_system(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: clock)
    told: list[str] = []
    stand(run, age=LEASE_SECONDS + 1)
    with RunLock.acquire(run, told.append):
        assert holder(run)["process"] == os.getpid()
    assert len(told) == 1
    assert "held by process 17 on node7 since 2026-01-02T03:04:05+00:00, last sign of life 301 s ago" in told[0]
    assert holder(run)["released"] is True


def test_a_living_holder_elsewhere_is_refused_at_its_next_sign_of_life(
    run: RunFolder, passing: Callable[[Callable[[], None]], None]
) -> None:
    told: list[str] = []
    stand(run, age=100)
    passing(lambda: lives(run))
    with (
        pytest.raises(OutputError, match="held by process 17 on node7 since") as raised,
        RunLock.acquire(run, told.append),
    ):
        pass
    assert raised.value.exit_code == 73
    assert "waiting: it is taken over after 300 s without one, in 200 s" in told[0]
    assert holder(run)["process"] == 17


def test_a_silent_holder_elsewhere_is_waited_for_and_then_taken_over(
    run: RunFolder, passing: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    stand(run)
    written, ages = run.holder.stat().st_mtime, [100.0, 150.0, 299.0, 301.0]
    passing(lambda: ages.pop(0) and None)
    monkeypatch.setattr(lease, "clock_of", lambda folder: written + ages[0])
    with RunLock.acquire(run, told.append):
        assert ages == [301.0]
        assert holder(run)["process"] == os.getpid()
    assert "in 200 s" in told[0]
    assert "last sign of life 301 s ago; it is taken over" in told[1]
    assert len(told) == 2


def test_a_clock_that_was_set_back_keeps_nobody_waiting_for_ever(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand(run, age=-1e6)  # the sign of life lies in the future
    now = [10.0]
    monkeypatch.setattr(lease, "_now", lambda: now[0])
    watch = Watch(run.holder)
    assert not watch.look().is_expired
    now[0] += 301
    assert watch.look().is_expired
    lives(run, -2e6)
    assert not watch.look().is_expired


def test_a_holder_that_gave_the_folder_back_is_not_waited_for(run: RunFolder) -> None:
    stand(run, released=True)
    with RunLock.acquire(run, pytest.fail):
        pass


@pytest.mark.parametrize("is_number_used_again", [False, True])
def test_a_dead_holder_on_this_machine_is_not_waited_for(run: RunFolder, *, is_number_used_again: bool) -> None:
    stand(run, machine=machine(), process=os.getpid() if is_number_used_again else NOBODY, process_start=5)
    with RunLock.acquire(run, pytest.fail):
        pass


def test_a_living_holder_on_this_machine_is_refused_at_once_where_locks_exclude_nobody(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    stand(run, machine=machine(), process=os.getppid(), process_start=start_of(os.getppid()))
    with pytest.raises(OutputError, match=f"held by process {os.getppid()} on node7"), RunLock.acquire(run):
        pass


@pytest.mark.parametrize("seconds", [True, "300", None, -1, 0, [], float("nan")])
def test_a_limit_that_is_no_limit_is_ours(run: RunFolder, seconds: Any) -> None:
    stand(run, lease_seconds=seconds)
    assert Watch(run.holder).look().seconds == LEASE_SECONDS
    stand(run, lease_seconds=1e300)
    assert Watch(run.holder).look().seconds == 3600


def test_of_several_that_saw_the_same_one_takes_it(run: RunFolder) -> None:
    stand(run, age=400)
    seen = [Watch(run.holder).look() for _ in range(3)]
    taken = [take(run.holder, standing) for standing in seen]
    assert [one is not None for one in taken] == [True, False, False]
    assert taken[0] is not None
    taken[0].release()
    stand(run, age=400)
    standing = Watch(run.holder).look()
    lives(run)
    assert take(run.holder, standing) is None, "it showed a sign of life in between"
    assert [path.name for path in run.path.iterdir()] == [run.holder.name]


def test_a_holder_shows_signs_of_life_and_finds_out_that_it_lost(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
    with RunLock.acquire(run):
        lives(run, age=1000)
        old = run.holder.stat().st_mtime
        while run.holder.stat().st_mtime == old:
            time.sleep(0.01)
        must_hold(run.path, surely=True)
        stand(run)
        with pytest.raises(
            OutputError, match="no longer holds the folder: held by process 17 on node7 since"
        ) as raised:
            must_hold(run.path, surely=True)
        assert raised.value.exit_code == 73
        with pytest.raises(OutputError, match="no longer holds"):
            publish(run.checkpoint(1), lambda folder: (folder / "file").write_text("x") and None)
        with pytest.raises(OutputError, match="no longer holds"):
            Lines(run.metrics).append({"step": 1})
        with pytest.raises(OutputError, match="no longer holds"):
            rotate(run, 1)
    assert sorted(path.name for path in run.path.iterdir()) == [".holder.json", ".lock"]
    assert holder(run)["process"] == 17, "who lost it gives nothing back"
    must_hold(run.path, surely=True)


def test_a_holder_whose_file_was_removed_has_lost(run: RunFolder) -> None:
    with RunLock.acquire(run):
        run.holder.unlink()
        with pytest.raises(OutputError, match=r"\.holder\.json is gone"):
            must_hold(run.path, surely=True)


SUSPENDED = """
import sys
from pathlib import Path
from instar.core.files import temporary
temporary.machine = lambda: "0" * 12  # a process of another host
from instar.checkpoint import lease, lock
lease.machine, lease.LEASE_SECONDS = temporary.machine, 1.0
from instar.checkpoint.protocol import publish
from instar.core.files.json_files import to_json
from instar.core.errors import OutputError
from instar.core.rundir import RunFolder
run = RunFolder(Path(sys.argv[1]))
def write(folder):
    (folder / "weights").write_text("mine")
with lock.RunLock.acquire(run):
    publish(run.checkpoint(1), write)
    print("holds", flush=True)
    sys.stdin.readline()
    try:
        publish(run.checkpoint(2), write)
    except OutputError as error:
        print(error, flush=True)
"""


def test_a_process_that_was_suspended_for_longer_than_its_lease_writes_nothing_more(run: RunFolder) -> None:
    command = [sys.executable, "-c", SUSPENDED, str(run.path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "holds\n"
        child.send_signal(signal.SIGSTOP)
        told: list[str] = []
        with RunLock.acquire(run, told.append):  # its lock stays, as that of a lost host on some mounts
            assert f"process {child.pid}" in told[0]
            before = sorted(run.path.iterdir())
            child.send_signal(signal.SIGCONT)
            said = child.communicate("go\n", timeout=900)[0]
            assert f"no longer holds the folder: held by process {os.getpid()}" in said
            assert sorted(run.path.iterdir()) == before
            must_hold(run.path, surely=True)
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("has_links", [True, False])
def test_the_claim_of_a_killed_process_holds_nobody_up_and_is_swept(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    """A process was killed between its claim and the lease: the same claim, and one of an earlier state."""
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no links here")))
    dead = to_json({"machine": machine(), "process": NOBODY, "process_start": 5})
    run.path.mkdir(exist_ok=True)
    for seen in (b"", b"an earlier holder"):
        run.path.joinpath(f".tmp-claim-{hashlib.sha256(seen).hexdigest()[:16]}").write_bytes(dead)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 3600.0)
    with RunLock.acquire(run, pytest.fail):
        pass
    assert not list(run.path.glob(".tmp-*"))
