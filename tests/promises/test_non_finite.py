"""A gradient that is not a number touches nothing; too many end the run; no such weight is ever published."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recipes import RECIPES, lines_of
from runs import last, run, tensors

from instar.core.errors import NonFiniteError
from instar.core.files.json_files import read_json
from instar.objective import Objective
from instar.trainer import Callback, StepResult, TrainState


class Watch(Callback):
    """Remembers weights and optimizer state after each step."""

    def __init__(self) -> None:
        self.weights: list[list[torch.Tensor]] = []
        self.moments: list[list[torch.Tensor]] = []

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        self.weights.append([parameter.detach().clone() for parameter in state.network.parameters()])
        self.moments.append([value.clone() for kept in state.optimizer.state.values() for value in kept.values()])


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int], factor: float) -> None:
    """The loss of these training steps (from 1) is multiplied by something that is not finite."""
    forward, done = Objective.forward, [0]

    def poisoned(self: Objective, batch: object) -> object:
        outcome = forward(self, batch)
        done[0] += 1
        return replace(outcome, total=outcome.total * factor) if done[0] in steps else outcome

    monkeypatch.setattr(Objective, "forward", poisoned)


def equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(left, right, strict=True))


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize("name", RECIPES)
def test_a_bad_step_is_skipped_and_counted(
    name: str, factor: float, shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {3, 5, 6}, factor)
    watch = Watch()
    run(shrunk(name), tmp_path / "run", extra=[watch])
    assert [equal(watch.weights[step - 2], watch.weights[step - 1]) for step in (2, 3, 4, 5, 6, 7)] == [
        step in (3, 5, 6) for step in (2, 3, 4, 5, 6, 7)
    ]
    for step in (3, 5, 6):
        assert equal(watch.moments[step - 2], watch.moments[step - 1])
    state = read_json(last(tmp_path / "run") / "state.json")
    assert state["callbacks"]["NonFinite"] == {"skipped": 3, "in_a_row": 0}
    assert all(torch.isfinite(tensor).all() for tensor in tensors(tmp_path / "run").values())
    curve = {row["step"]: row["loss"] for row in lines_of(tmp_path / "run" / "metrics.jsonl", "train")}
    assert [step for step, loss in curve.items() if loss is None] == [3, 5, 6]


@pytest.mark.parametrize(("policy", "steps", "step"), [("skip", {3, 4, 5}, 5), ("stop", {4}, 4)])
def test_too_many_end_the_run(  # noqa: PLR0917
    policy: str, steps: set[int], step: int, shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, steps, math.nan)
    with pytest.raises(NonFiniteError, match=rf"step {step}: .*samples \[\d+, .*train\.optimizer\.lr") as caught:
        run(shrunk("text-characters"), tmp_path / "run", f"train.on_non_finite={policy}", "train.eval_every=null")
    assert caught.value.exit_code == 70
    assert last(tmp_path / "run").name == "checkpoint-3"
    assert all(torch.isfinite(tensor).all() for tensor in tensors(tmp_path / "run").values())


def test_a_weight_that_is_not_finite_is_never_published(shrunk: Callable, tmp_path: Path) -> None:
    class Break(Callback):
        def step_ended(self, state: TrainState, result: StepResult) -> None:
            if state.step == 4:
                with torch.no_grad():
                    next(state.network.parameters()).view(-1)[0] = math.inf

    with pytest.raises(NonFiniteError, match="no checkpoint is published"):
        run(shrunk("text-characters"), tmp_path / "run", "train.eval_every=null", extra=[Break()])
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-3"]
    assert not list((tmp_path / "run").glob(".tmp-*"))
