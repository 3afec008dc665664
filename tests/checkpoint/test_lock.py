"""One run folder, one run; the dead hold nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from instar.checkpoint.lock import RunLock
from instar.core.errors import OutputError
from instar.core.rundir import RunFolder

HOLD = """
import os, sys, time
from pathlib import Path
from instar.checkpoint.lock import RunLock
from instar.core.rundir import RunFolder
with RunLock.acquire(RunFolder(Path(sys.argv[1]))):
    worker = os.fork() if sys.argv[2] == "worker" else 1
    if worker == 0:
        print(os.getpid(), flush=True)  # by now it has let go of the parent's lock
        time.sleep(300)
        os._exit(0)
    if sys.argv[2] == "alone":
        print(1, flush=True)
    time.sleep(300)
"""


@pytest.fixture(params=["alone", "worker"])
def holder(run: RunFolder, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HOLD, str(run.path), request.param]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    yield process
    for number in (process.pid, worker):
        if number > 1:
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
    process.wait()
    process.stdout.close()


def test_a_second_run_is_told_who_holds_the_folder_at_once(
    run: RunFolder, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for the lock"))
    with pytest.raises(OutputError) as raised, RunLock.acquire(run):
        pass
    assert f"process {holder.pid} on {os.uname().nodename}" in str(raised.value)
    assert raised.value.exit_code == 73


def test_a_killed_holder_never_blocks_even_if_its_workers_live(run: RunFolder, holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.wait()
    with RunLock.acquire(run):
        assert str(os.getpid()) in run.holder.read_text()


def test_one_process_holds_a_folder_once(run: RunFolder) -> None:
    with RunLock.acquire(run):
        with pytest.raises(OutputError, match=f"process {os.getpid()}"), RunLock.acquire(run):
            pass
        with pytest.raises(OutputError), RunLock.acquire(run):
            pass
    with RunLock.acquire(run):
        pass


def test_a_holder_that_has_not_said_its_name_is_a_holder(run: RunFolder) -> None:
    with RunLock.acquire(run):
        run.holder.write_text("")
        with pytest.raises(OutputError, match="just starting"), RunLock.acquire(run):
            pass


def test_the_lock_is_free_after_an_error(run: RunFolder) -> None:
    with pytest.raises(RuntimeError), RunLock.acquire(run):
        raise RuntimeError
    with RunLock.acquire(run):
        pass


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), RunLock.acquire(RunFolder(tmp_path / "file")):
        pass
