"""Logs, metrics in files and on the screen, memory, and what is counted."""

import json
import mmap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from transformers.trainer_utils import speed_metrics

from instar.api.memory import TrainerMemoryTracker
from instar.api.reporting import metrics_format
from tests.api.evaluation_parts import Line, LineData


def make(folder: Path, **options: Any) -> Any:
    from instar import Trainer, TrainingArguments

    kind = options.pop("kind", Trainer)
    args = TrainingArguments(
        str(folder),
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        num_train_epochs=1,
        **options,
    )
    return kind(Line(), args, train_dataset=LineData(16), eval_dataset=LineData(8))


def test_a_record_has_the_epoch_and_goes_into_the_history_with_its_step(tmp_path: Path) -> None:
    from instar import TrainerCallback

    seen: list[dict[str, Any]] = []

    class Listener(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.append(dict(logs))

    trainer = make(tmp_path)
    trainer.add_callback(Listener)
    trainer.state.epoch, trainer.state.global_step = 1.5, 7
    trainer.log({"loss": 0.25})
    assert seen == [{"loss": 0.25, "epoch": 1.5}]
    assert trainer.state.log_history == [{"loss": 0.25, "epoch": 1.5, "step": 7}]


def test_tokens_are_logged_where_they_are_counted(tmp_path: Path) -> None:
    trainer = make(tmp_path, include_num_input_tokens_seen="all")
    trainer.state.num_input_tokens_seen = 1000
    logs: dict[str, Any] = {}
    trainer.log(logs, time.time() - 2)
    assert logs["num_input_tokens_seen"] == 1000
    assert logs["train_tokens_per_second"] == pytest.approx(500, rel=0.2)


def test_an_override_of_log_sees_evaluations_too(tmp_path: Path) -> None:
    from instar import Trainer

    class Old(Trainer):
        def log(self, logs: Any) -> None:
            super().log({**logs, "extra": 1.0})

    trainer = make(tmp_path, kind=Old, logging_steps=1)
    trainer.train()
    trainer.evaluate()
    assert all(record["extra"] == 1.0 for record in trainer.state.log_history)
    assert any("eval_loss" in record for record in trainer.state.log_history)


def test_metrics_are_written_as_people_read_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {
        "train_loss": 0.123456, "train_runtime": 3725.678, "total_flos": 5 << 30, "init_mem_cpu_alloc_delta": 3 << 20,
        "train_samples": 12,
    }  # fmt: skip
    assert metrics_format(metrics) == {
        "train_loss": 0.1235, "train_runtime": "1:02:05.67", "total_flos": "5GF", "init_mem_cpu_alloc_delta": "3MB",
        "train_samples": 12,
    }  # fmt: skip
    trainer = make(tmp_path)
    assert trainer.metrics_format(metrics) == metrics_format(metrics)
    capsys.readouterr()
    trainer.log_metrics("train", metrics)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "***** train metrics *****"
    assert lines[1] == "  init_mem_cpu_alloc_delta =        3MB"
    assert lines[-1] == "  train_samples            =         12"
    trainer.log_metrics("empty", {})


def test_metrics_of_all_splits_come_together_in_a_file(tmp_path: Path) -> None:
    trainer = make(tmp_path / "out")
    trainer.save_metrics("train", {"train_loss": 1.5})
    trainer.save_metrics("eval", {"eval_loss": float("nan")})
    trainer.save_metrics("other", {"other": 1}, combined=False)
    assert json.loads((tmp_path / "out" / "train_results.json").read_text()) == {"train_loss": 1.5}
    together = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert sorted(together) == ["eval_loss", "train_loss"]
    assert together["eval_loss"] != together["eval_loss"]


def test_the_state_is_saved_where_others_look_for_it(tmp_path: Path) -> None:
    trainer = make(tmp_path / "out")
    trainer.state.global_step = 3
    trainer.save_state()
    assert json.loads((tmp_path / "out" / "trainer_state.json").read_text())["global_step"] == 3


def test_only_the_main_process_writes(tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = make(tmp_path / "out")
    monkeypatch.setattr(type(trainer), "is_world_process_zero", lambda self: False)
    capsys.readouterr()
    trainer.save_metrics("train", {"loss": 1.0})
    trainer.log_metrics("train", {"loss": 1.0})
    trainer.save_state()
    assert list((tmp_path / "out").glob("*.json")) == []
    assert capsys.readouterr().out == ""


def test_operations_are_moved_into_the_state(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    trainer.current_flos = 5
    trainer.store_flos()
    trainer.store_flos()
    assert (trainer.state.total_flos, trainer.current_flos) == (5, 0)


def test_memory_is_reported_for_the_outer_stage(tmp_path: Path) -> None:
    before = threading.active_count()
    trainer = make(tmp_path, skip_memory_metrics=False, eval_strategy="epoch")
    trained = trainer.train().metrics
    assert {
        "before_init_mem_cpu",
        "init_mem_cpu_alloc_delta",
        "train_mem_cpu_alloc_delta",
        "train_mem_cpu_peaked_delta",
    } <= set(trained)
    assert not any(name.startswith("eval_mem") for name in trained)
    evaluated = trainer.evaluate()
    assert {"eval_mem_cpu_alloc_delta", "eval_mem_cpu_peaked_delta"} <= set(evaluated)
    assert not any(name.startswith("init_mem") for name in evaluated)
    assert "test_mem_cpu_alloc_delta" in trainer.predict(LineData(8)).metrics
    assert threading.active_count() == before
    assert not any("_mem_" in name for name in make(tmp_path).evaluate())


def test_memory_that_is_given_back_is_in_the_peak() -> None:
    tracker = TrainerMemoryTracker()
    tracker.start("train")
    block = mmap.mmap(-1, 40_000_000)  # of the system: no allocator has it from an earlier test
    block.write(bytes(40_000_000))
    while tracker._watch._peak < tracker._begin[0] + 30_000_000:  # the sampler has a thread of its own
        time.sleep(0.001)
    block.close()
    metrics: dict[str, Any] = {}
    tracker.stop_and_update_metrics(metrics, "train")
    assert metrics["train_mem_cpu_peaked_delta"] + metrics["train_mem_cpu_alloc_delta"] > 30_000_000


def test_a_stage_is_named_by_the_method_that_calls() -> None:
    class Life:
        def __init__(self) -> None:
            self.memory = TrainerMemoryTracker()

        def evaluate(self) -> dict[str, Any]:
            self.memory.start()
            metrics: dict[str, Any] = {}
            self.memory.stop_and_update_metrics(metrics)
            return metrics

    assert "eval_mem_cpu_alloc_delta" in Life().evaluate()


def test_speed_is_per_second_since_a_moment() -> None:
    found = speed_metrics("eval", time.time() - 2, num_samples=100, num_steps=10, num_tokens=1000)
    assert found["eval_runtime"] == pytest.approx(2, rel=0.2)
    assert found["eval_samples_per_second"] == pytest.approx(50, rel=0.2)
    assert set(found) == {
        f"eval_{name}" for name in ("runtime", "samples_per_second", "steps_per_second", "tokens_per_second")
    }
