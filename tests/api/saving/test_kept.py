"""Which checkpoints stay, and which is the best."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from instar import Trainer
from instar.api.checkpoints import finding
from instar.api.checkpoints.weights import load_weights
from tests.api.saving_parts import Tied, cut, make, steps, weights


def fakes(folder: Path, *numbers: int) -> None:
    for place, number in enumerate(numbers):
        (folder / f"checkpoint-{number}").mkdir(parents=True)
        os.utime(folder / f"checkpoint-{number}", (1e9 - place, 1e9 - place))  # the clock ran backwards


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [5, 10, 15, 20, 25]),
        (0, None, [5, 10, 15, 20, 25]),
        (2, None, [20, 25]),
        (2, 5, [5, 25]),
        (1, 25, [25]),
        (1, 5, [5, 25]),
        (3, 20, [15, 20, 25]),
    ],
)
def test_the_newest_by_step_and_the_best_stay(
    tmp_path: Path, limit: int | None, best: int | None, left: list[int]
) -> None:
    trainer = make(tmp_path / "run", save_total_limit=limit)
    fakes(tmp_path / "run", 5, 10, 15, 20, 25)
    if best is not None:
        trainer.state.best_model_checkpoint = str(tmp_path / "run" / f"checkpoint-{best}")
    trainer._rotate_checkpoints()
    assert steps(tmp_path / "run") == left


def test_checkpoints_are_listed_in_the_order_in_which_they_go(tmp_path: Path) -> None:
    trainer = make(tmp_path / "run")
    fakes(tmp_path / "run", 20, 5, 15, 100)
    trainer.state.best_model_checkpoint = str(tmp_path / "run" / "checkpoint-5")
    assert [Path(name).name for name in trainer._sorted_checkpoints()] == [
        "checkpoint-15",
        "checkpoint-20",
        "checkpoint-5",
        "checkpoint-100",
    ]
    assert trainer._sorted_checkpoints(str(tmp_path / "none")) == []


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(copy: Path) -> None:
    cut(copy / "checkpoint-12" / "model.safetensors")
    finding.rotate(copy, 2)
    assert steps(copy) == [4, 8]


def judged(folder: Path, scores: list[float], **changes: Any) -> Trainer:
    """A run that evaluates every 2 steps and is given these accuracies."""

    class Judged(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            self.evaluations = [*getattr(self, "evaluations", []), self.state.global_step]
            metrics = {"eval_accuracy": scores[len(self.evaluations) - 1]}
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    wanted = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "accuracy", "max_steps": 8}
    trainer = make(folder, kind=Judged, **{**wanted, **changes})
    trainer.train()
    return trainer


def test_the_best_checkpoint_is_named_and_stays(tmp_path: Path) -> None:
    trainer = judged(tmp_path, [0.9, 0.5, 0.6, 0.7], save_steps=2, save_total_limit=1, greater_is_better=True)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 2)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert steps(tmp_path) == [2]


def test_without_the_wish_for_the_best_a_step_between_two_saves_is_not_saved(tmp_path: Path) -> None:
    trainer = judged(tmp_path, [0.9, 0.5, 0.6, 0.7], save_steps=3, greater_is_better=True)
    assert trainer.state.best_global_step == 2
    assert trainer.state.best_model_checkpoint is None
    assert steps(tmp_path) == [3, 6, 8]


def test_the_best_is_saved_whenever_it_comes_and_loaded_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With `save_best` evaluating and saving are free of each other; Transformers has no way to that."""
    trainer = judged(
        tmp_path,
        [0.1, 0.9, 0.6, 0.7],
        save_steps=5,
        greater_is_better=True,
        save_best=True,
        load_best_model_at_end=True,
    )
    assert steps(tmp_path) == [2, 4, 5, 8]
    assert caplog.text.count("a checkpoint is saved at each evaluation that beats the ones before") == 1
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    other = Tied(seed=9)
    load_weights(other, tmp_path / "checkpoint-4")
    assert weights(trainer.model) == weights(other)


def test_by_epoch_and_by_step_go_together(tmp_path: Path) -> None:
    trainer = judged(
        tmp_path, [0.2, 0.3], eval_strategy="epoch", save_strategy="steps", save_steps=5, max_steps=-1,
        load_best_model_at_end=True, greater_is_better=True, save_best=True,
    )  # fmt: skip
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-12")


def test_only_the_best_is_saved_where_the_strategy_says_so(tmp_path: Path) -> None:
    judged(tmp_path, [3.0, 2.0, 2.5, 1.0], save_strategy="best", greater_is_better=False)
    assert steps(tmp_path) == [2, 4, 8]


def test_a_metric_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"'eval_f1', which is not found .*\['eval_accuracy'\]"):
        judged(tmp_path, [1.0], metric_for_best_model="f1")


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    nan = float("nan")
    trainer = judged(tmp_path, [nan, 0.5, nan, 0.4], greater_is_better=True)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.5, 4)


MISMATCHED = [{"eval_strategy": "no"}, {"save_strategy": "no"}, {"save_strategy": "epoch"}]


@pytest.mark.parametrize("strategies", MISMATCHED)
def test_the_best_model_asked_with_mismatched_strategies_is_refused(tmp_path: Path, strategies: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="load_best_model_at_end"):
        make(tmp_path, **{"eval_strategy": "steps", "load_best_model_at_end": True, **strategies})


def test_a_run_folder_that_moved_keeps_its_best(copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = copy / "checkpoint-12" / "trainer_state.json"
    values = json.loads(state.read_text())
    for best, found in (("/old/place/checkpoint-8", str(copy / "checkpoint-8")), ("/old/place/checkpoint-7", None)):
        state.write_text(json.dumps({**values, "best_model_checkpoint": best}))
        assert make(tmp_path / "new")._load_state(str(copy / "checkpoint-12")).best_model_checkpoint == found
    assert "is not there any more" in caplog.text


def test_a_best_model_that_is_gone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path)
    before = weights(trainer.model)
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-3")
    trainer._load_best_model()
    assert "The best model cannot be loaded" in caplog.text
    assert weights(trainer.model) == before


def test_weights_that_are_no_numbers_are_not_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path / "run")
    with torch.no_grad():
        trainer.model.middle.weight[0, 0] = float("nan")  # type: ignore[index,union-attr]
    trainer._save_checkpoint(trainer.model)
    assert "the weight middle.weight is not finite, so no checkpoint is published" in caplog.text
    assert not (tmp_path / "run" / "checkpoint-0").exists()
