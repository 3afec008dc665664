"""Looking at a run while it goes on, and telling it what to do."""

import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from instar.checkpoint.lock import RunLock
from instar.core.errors import CheckpointError, InputMissingError, OutputError, UsageError
from instar.core.files.json_files import read_lines
from instar.core.rundir import RunFolder
from instar.run import prepare
from instar.run.status import status
from instar.run.train import train
from instar.task.answer import MaskedAnswer
from instar.trainer import Callback, StepResult, TrainState
from instar.trainer.callbacks.control import Control
from instar.trainer.callbacks.sample import MOST_PRINTED, Sample
from instar.trainer.parallel.processes import Processes
from instar.trainer.runtime import Runtime
from tests.run.conftest import Workshop

Trained = Callable[[str], tuple[Workshop, dict[str, Any]]]


class AtStep(Callback):
    """Does something at the end of a step."""

    def __init__(self, step: int, do: Callable[[TrainState], None]) -> None:
        self.step, self.do = step, do

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if state.step == self.step:
            self.do(state)


def run(workshop: Workshop, *overrides: str, extra: list[Callback] | None = None, task: str = "mlm") -> dict[str, Any]:
    options = [f"data.cache={workshop.folder / 'cache'}", *overrides]
    return train(workshop.run_file(task), options, output=workshop.folder / "run", extra=extra or [])


def test_a_file_stop_ends_the_run_after_the_next_step_and_the_run_goes_on_later(workshop: Workshop) -> None:
    folder = RunFolder(workshop.folder / "run")
    put = AtStep(3, lambda _: folder.stop_file.touch())
    summary = run(workshop, extra=[put])
    assert summary["steps"] == 4
    assert summary["stopped"] == "asked to by the file stop"
    assert summary["checkpoint"].endswith("checkpoint-4")
    assert not folder.stop_file.exists()
    assert status(folder.path)["state"] == "stopped"
    again = run(workshop)
    assert (again["steps"], again["stopped"]) == (12, "budget spent")


def test_a_file_save_publishes_a_checkpoint_of_the_next_step(workshop: Workshop) -> None:
    folder = RunFolder(workshop.folder / "run")
    put = AtStep(2, lambda _: folder.save_file.write_text("please"))
    run(workshop, "train.keep_last=9", "train.save_every=8 steps", "train.schedule={kind: constant}", extra=[put])
    assert [step for step, _ in folder.checkpoints()] == [3, 8, 12] or 3 in dict(folder.checkpoints())
    assert not folder.save_file.exists()


def test_the_files_are_looked_for_on_the_main_process_only_and_all_act(tmp_path: Path) -> None:
    """A rank that does not look gets the answer from the one that does."""

    class Second(Runtime):
        def any(self, flag: bool) -> bool:  # noqa: FBT001
            return True  # what the main process found

    asked: list[bool] = []
    runtime = Second(processes=Processes(rank=1, world_size=2))
    RunFolder(tmp_path).stop_file.touch()
    control = Control(RunFolder(tmp_path), lambda: asked.append(True), runtime)
    state = type("State", (), {"stop_reason": None})()
    control.step_ended(state, None)
    assert state.stop_reason == "asked to by the file stop"
    assert asked == [True]
    assert RunFolder(tmp_path).stop_file.exists()


# ---- status ----


def test_status_of_a_live_run_reads_and_writes_nothing(workshop: Workshop) -> None:
    seen: list[dict[str, Any]] = []
    folder = workshop.folder / "run"

    def look(state: TrainState) -> None:
        with (folder / "metrics.jsonl").open("ab") as file:  # a line that is just being written
            file.write(b'{"step": 8, "spl')
        before = sorted(path.name for path in folder.iterdir())
        seen.append(status(folder))
        assert sorted(path.name for path in folder.iterdir()) == before
        os.truncate(folder / "metrics.jsonl", (folder / "metrics.jsonl").stat().st_size - 16)

    run(workshop, extra=[AtStep(9, look)])
    assert seen[0]["state"] == "running"
    assert seen[0]["step"] == 8
    assert seen[0]["done"] == pytest.approx(8 / 12, abs=1e-3)
    assert seen[0]["process"] == os.getpid()
    assert seen[0]["checkpoint"].endswith("checkpoint-6")
    assert "seconds_left" in seen[0]
    after = status(folder)
    assert (after["state"], after["step"], after["done"]) == ("done", 12, 1.0)
    assert {"train_loss", "train_lr", "eval_loss", "eval_masked_accuracy"} <= set(after)
    assert "process" not in after


def test_status_knows_how_long_an_epoch_is(workshop: Workshop) -> None:
    run(workshop, "train.budget=2 epochs", "train.save_every=3 steps", extra=[AtStep(6, self_stop)])
    found = status(workshop.folder / "run")
    assert (found["state"], found["step"], found["budget"]) == ("stopped", 6, "2 epochs")
    assert found["done"] == pytest.approx(0.5)


def self_stop(state: TrainState) -> None:
    state.stop_reason = "enough"


def test_status_asks_without_disturbing_the_lock(workshop: Workshop) -> None:
    run(workshop, "train.budget=2 steps")
    folder = RunFolder(workshop.folder / "run")
    assert status(folder.path)["state"] == "done"
    with RunLock.acquire(folder):
        assert status(folder.path)["process"] == os.getpid()
    holder = {"host": socket.gethostname() + "-other", "process": 1, "started": "2020-01-01T00:00:00+00:00"}
    folder.holder.write_text(json.dumps(holder))
    assert status(folder.path)["state"] == "running", "on another host a fresh file says it"
    for path in (folder.holder, folder.metrics):
        os.utime(path, (0, 0))
    assert status(folder.path)["state"] == "done"


def test_status_of_what_is_no_run(tmp_path: Path, workshop: Workshop) -> None:
    with pytest.raises(InputMissingError, match="no run here"):
        status(tmp_path)
    (tmp_path / "run.yaml").write_text("task: [")
    with pytest.raises(CheckpointError, match="is not the run file that was written"):
        status(tmp_path)


def test_status_of_a_run_that_was_stopped_between_two_lines_and_of_torn_files(workshop: Workshop) -> None:
    summary = run(workshop, "train.log_every=4", extra=[AtStep(6, self_stop)])
    folder, checkpoint = workshop.folder / "run", Path(summary["checkpoint"])
    found = status(folder)
    assert (found["step"], found["done"]) == (6, 0.5)
    with pytest.raises(UsageError, match=r"checkpoint-6: is a checkpoint; its run is .*run$"):
        status(checkpoint)
    for text in (b"", b"\xff\x00 torn", b"[1, 2]\n"):
        (folder / "metrics.jsonl").write_bytes(text)
        found = status(folder)
        assert (found["state"], found["step"], found["checkpoint"]) == ("stopped", 6, str(checkpoint))
    (checkpoint / "state.json").write_bytes(b"\x00\xff")
    assert status(folder)["step"] == 0
    (folder / "metrics.jsonl").unlink()
    assert status(folder)["step"] == 0


def test_a_folder_that_a_live_run_writes_is_not_trained_in(workshop: Workshop) -> None:
    run(workshop, "train.budget=2 steps")
    with RunLock.acquire(RunFolder(workshop.folder / "run")):
        with pytest.raises(OutputError, match="held by process"):
            run(workshop, "train.budget=4 steps")
        assert status(workshop.folder / "run")["step"] == 2


# ---- previews ----


@pytest.mark.parametrize(
    ("task", "told"),
    [("mlm", r"\["), ("causal_lm", r" \| "), ("classify", r"label (bird|other), predicted (bird|other) \(0\.\d\d\)")],
)
def test_previews_come_when_due_on_the_terminal_and_in_the_file(
    workshop: Workshop, task: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    run(workshop, "train.sample_every=5 steps", "train.eval_every=null", task=task)
    rows = read_lines(workshop.folder / "run" / "samples.jsonl")
    assert [row["step"] for row in rows] == [5] * prepare.PREVIEW_ROWS + [10] * prepare.PREVIEW_ROWS
    assert all(row["kind"] == task for row in rows)
    first, second = rows[0], rows[prepare.PREVIEW_ROWS]
    given = {"mlm": lambda row: [token["text"] for token in row["tokens"]], "causal_lm": lambda row: row["prompt"]}
    same = given.get(task, lambda row: (row["text"], row["label"]))
    assert same(first) == same(second), "the same rows every time"
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert len(lines) == 2 * min(MOST_PRINTED, prepare.PREVIEW_ROWS)
    assert all(re.search(told, line) for line in lines)


def test_a_preview_costs_nothing_on_other_steps(tmp_path: Path) -> None:
    def never() -> list[Mapping[str, Any]]:
        raise AssertionError("asked for a preview")

    sample = Sample(tmp_path / "samples.jsonl", never, Runtime(), due=None)
    for _ in range(3):
        sample.step_ended(None, None)  # type: ignore[arg-type]


def test_a_masked_row_is_readable_with_and_without_colour() -> None:
    tokens = [
        {"text": "the", "masked": False},
        {"text": "fox", "masked": True, "guess": "fox", "probability": 0.9, "right": True},
        {"text": "jumped", "masked": True, "guess": "over", "probability": 0.4, "right": False},
        {"text": "high\x1b[31m", "masked": False},
    ]
    text = MaskedAnswer().line({"kind": "mlm", "tokens": tokens})
    assert text.plain == "  the [fox] [over, not jumped] high [31m"
    assert {str(span.style) for span in text.spans} == {"dim", "green", "red", "yellow"}
    console = Console(force_terminal=False, no_color=True, record=True, width=200)
    console.print(text)
    assert "[over, not jumped]" in console.export_text()
