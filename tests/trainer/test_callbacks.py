"""What callbacks promise: when something is due, when a run stops, and where a log is cut."""

import json
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from instar.core.budget import Budget
from instar.core.errors import OutputError
from instar.trainer import Counters, Runtime
from instar.trainer.average import WeightAverage
from instar.trainer.callbacks import interval
from instar.trainer.callbacks.early_stop import EarlyStop, EarlyStopping, is_better, worst
from instar.trainer.callbacks.interval import Due
from instar.trainer.callbacks.lines import Lines

PER_STEP, PER_EPOCH = 7, 20


def state(step: int = 0) -> Any:
    """A run of 3 epochs as far as a callback looks at it."""
    totals = {"samples": 3 * PER_EPOCH, "epochs": 3}
    counters, begun = Counters(steps=step, samples=step * PER_STEP), Counters()
    return SimpleNamespace(step=step, counters=counters, totals=totals, stop_reason=None, stage=0, begun=begun)


def due_steps(every: str, last: int = 9) -> list[int]:
    due = Due(Budget.parse(every), Runtime())
    return [step for step in range(1, last + 1) if due.after(state(step), (step - 1) * PER_STEP)]


def test_steps_are_counted_from_the_start_of_the_run() -> None:
    assert due_steps("3 steps") == [3, 6, 9]
    assert not Due(None, Runtime()).after(state(3), 14)


@pytest.mark.parametrize("every", ["0.5 epochs", "1 epochs", "2 epochs"])
def test_an_epoch_is_due_in_the_step_that_crosses_it(every: str) -> None:
    period = float(every.split(maxsplit=1)[0]) * PER_EPOCH
    crossed = [
        step
        for step, (before, after) in enumerate(pairwise(range(0, 70, PER_STEP)), start=1)
        if before // period < after // period
    ]
    assert due_steps(every) == crossed


def test_minutes_begin_anew_when_they_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(interval.time, "monotonic", lambda: clock[0])
    due = Due(Budget(2, "minutes"), Runtime())
    said = []
    for seconds in (60, 59, 1, 119, 1, 1000, 1):
        clock[0] += seconds
        said.append(due.after(state(), 0))
    assert said == [False, False, True, False, True, True, False]


def test_minutes_count_from_the_end_of_what_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that takes longer than its interval would otherwise be due in every step."""
    clock = [1000.0]
    monkeypatch.setattr(interval.time, "monotonic", lambda: clock[0])
    due = Due(Budget(2, "minutes"), Runtime())
    said = []
    for seconds in (120, 1, 118, 1):
        clock[0] += seconds
        said.append(due.after(state(), 0))
        if said[-1]:
            clock[0] += 500  # the save
            due.done()
    assert said == [True, False, False, True]


@pytest.mark.parametrize("metric", ["loss", "perplexity", "bits_per_character"])
def test_losses_want_to_be_low(metric: str) -> None:
    assert is_better(1.0, 2.0, metric=metric)
    assert not is_better(2.0, 1.0, metric=metric)
    assert worst(metric) == math.inf


@pytest.mark.parametrize("metric", ["accuracy", "masked_accuracy", "f1", "matthews", "spearman"])
def test_scores_want_to_be_high(metric: str) -> None:
    assert is_better(2.0, 1.0, metric=metric)
    assert not is_better(1.0, 2.0, metric=metric)
    assert worst(metric) == -math.inf


@pytest.mark.parametrize(
    ("metric", "values", "stops_after"),
    [
        ("loss", [3.0, 2.0, 2.5, 1.9, 2.0, 2.1], 6),
        ("accuracy", [0.1, 0.2, 0.1, 0.3, 0.3, 0.2], 6),
        ("loss", [3.0, 2.0, 1.0, 0.5], None),
        ("loss", [3.0, 2.95, 2.95], 3),
    ],
)
def test_early_stopping_bears_with_a_few(metric: str, values: list[float], stops_after: int | None) -> None:
    run, config = state(), EarlyStopping(metric=metric, patience=2, min_gain=0.06)
    stop = EarlyStop(config)
    for number, value in enumerate(values, start=1):
        stop.evaluated(run, {"split": "test", metric: -value})  # other splits are not watched
        stop.evaluated(run, {"split": "eval", metric: value})
        again = EarlyStop(config)
        again.load_state_dict(json.loads(json.dumps(stop.state_dict())))
        assert (again.best, again.without_gain) == (stop.best, stop.without_gain)
        assert (run.stop_reason is not None) == (number == stops_after)
    resumed = state()
    again.fit_started(resumed)
    assert (resumed.stop_reason is not None) == (stops_after is not None)


def test_a_log_is_cut_to_what_a_checkpoint_remembers(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "metrics.jsonl")
    lines.cut()
    lines.append({"step": 1, "loss": math.nan})
    kept = lines.synced_length()
    lines.append({"step": 2})
    resumed = Lines(lines.path)
    resumed.length = kept
    with resumed.path.open("a") as file:
        file.write('{"step": 3, "lo')  # its writer was killed
    resumed.cut()
    assert resumed.path.read_text() == '{"step": 1, "loss": null}\n'
    resumed.append({"step": 2})
    assert [json.loads(line)["step"] for line in resumed.path.read_text().splitlines()] == [1, 2]


def test_a_log_that_lost_its_end_is_not_filled_with_nothing(tmp_path: Path) -> None:
    lines = Lines(tmp_path / "metrics.jsonl")
    lines.path.write_text('{"step": 1}\n')
    lines.length = 500
    lines.cut()
    assert lines.length == lines.path.stat().st_size == 12


def test_a_log_whose_folder_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Lines(tmp_path / "gone" / "metrics.jsonl").append({"step": 1})


def test_an_average_moves_by_its_share_and_swaps_back() -> None:
    module = nn.Linear(2, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    average = WeightAverage(module, decay=0.75)
    nn.init.constant_(module.weight, 5.0)
    average.update()
    assert average.weights["weight"].tolist() == [[2.0, 2.0]]
    with average.in_place():
        assert module.weight.tolist() == [[2.0, 2.0]]
    assert module.weight.tolist() == [[5.0, 5.0]]


@pytest.mark.parametrize(
    "weights", [{}, {"weight": torch.zeros(1, 3)}, {"weight": torch.zeros(1, 2), "b": torch.ones(1)}]
)
def test_an_average_of_other_weights_is_refused(weights: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="wanted the shape"):
        WeightAverage(nn.Linear(2, 1, bias=False), decay=0.5).load(weights)
