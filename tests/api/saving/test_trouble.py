"""Saving by users' own ways, in the background, and on full disks."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from instar import Trainer, TrainerCallback
from instar.api.checkpoints.background import Background
from instar.api.checkpoints.plain import copied, write_values
from instar.checkpoint.protocol import verify
from instar.core.errors import DiskError
from tests.api.saving_parts import Tied, make, steps

# ---- users' own ways of saving ----


def test_a_users_way_of_saving_is_used(tmp_path: Path) -> None:
    class Own(Trainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001
            super().save_model(output_dir, _internal_call)
            (Path(str(output_dir)) / "more.txt").write_text("mine")

    trainer = make(tmp_path, kind=Own, max_steps=2, async_save=True)
    trainer.train()
    assert (tmp_path / "checkpoint-2" / "more.txt").read_text() == "mine"
    assert "more.txt" in verify(tmp_path / "checkpoint-2")["files"]


def test_callbacks_find_the_checkpoint_when_they_are_told_of_it(tmp_path: Path) -> None:
    class Adds(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            place = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (place / "own.txt").write_text("mine")

    make(tmp_path, callbacks=[Adds], save_steps=2, max_steps=6, save_total_limit=2).train()
    assert steps(tmp_path) == [4, 6]
    assert make(tmp_path)._find_checkpoint(True) == str(tmp_path / "checkpoint-6")


# ---- in the background ----


def test_a_copy_is_written_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make(tmp_path / "reference")
    reference.train()
    trainer = make(tmp_path / "run", async_save=True)
    let_go, seen = threading.Event(), []
    save = Trainer._save

    def slow(self: Trainer, output_dir: str | None = None, state_dict: Any = None) -> None:
        seen.append(threading.current_thread() is threading.main_thread())
        let_go.wait(20)
        seen.append(self.state.global_step)
        save(self, output_dir, state_dict)

    class Lets(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                let_go.set()

    monkeypatch.setattr("instar.api.saving.Saving._save", slow)
    monkeypatch.setattr("instar.api.saving._WRITERS", ())
    trainer.add_callback(Lets)
    trainer.train()
    assert seen[0] is False
    assert seen[1] >= 6, "two steps were made while the checkpoint waited"
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
        mine, theirs = (tmp_path / kind / "checkpoint-4" / name for kind in ("run", "reference"))
        assert mine.read_bytes() == theirs.read_bytes()
    assert steps(tmp_path / "run") == [4, 8, 12]
    assert "checkpoint" not in [thread.name for thread in threading.enumerate()]


def test_what_goes_wrong_in_the_background_is_raised_where_it_is_waited_for() -> None:
    writer = Background()
    writer.start(lambda: None)
    writer.wait()

    def fail() -> None:
        raise OSError("gone")

    writer.start(fail)
    with pytest.raises(OSError, match="gone"):
        writer.start(lambda: None)
    writer.start(fail)
    with pytest.raises(OSError, match="gone"):
        writer.wait()
    writer.wait()


def test_copies_share_memory_where_the_originals_do() -> None:
    model = Tied()
    state = model.state_dict()
    made = copied({"model": state, "more": [1, (state["table.weight"], "x")]})
    assert made["model"]["head.weight"] is made["model"]["table.weight"] is made["more"][1][0]
    state["table.weight"].zero_()
    assert made["model"]["table.weight"].abs().sum() > 0


# ---- full disks ----


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A disk that is full while the list holds True."""
    state = [True]
    write = write_values

    def fails(path: Path, value: Any) -> None:
        if state[0]:
            raise DiskError(f"{path}: {os.strerror(errno.ENOSPC)}")
        write(path, value)

    monkeypatch.setattr("instar.api.saving.write_values", fails)
    return iter([state]).__next__() and state  # type: ignore[return-value]


@pytest.mark.parametrize("in_background", [False, True])
def test_a_full_disk_ends_a_run_at_the_third_time_and_leaves_no_half(
    tmp_path: Path, full: list[bool], caplog: pytest.LogCaptureFixture, *, in_background: bool
) -> None:
    with pytest.raises(DiskError, match="No space left"):
        make(tmp_path, save_steps=1, async_save=in_background).train()
    assert caplog.text.count("training goes on and the next save tries again") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_was_full_for_a_while_costs_a_checkpoint_only(tmp_path: Path, full: list[bool]) -> None:
    class Frees(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            full[0] = state.global_step % 3 != 0

    make(tmp_path, save_steps=1, callbacks=[Frees], max_steps=6).train()
    assert steps(tmp_path) == [3, 6]


def test_a_full_disk_is_told_with_what_the_system_said(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DiskError, match=r"optimizer.pt: File too large"):
            write_values(tmp_path / "optimizer.pt", {"moment": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
