"""Promise 1: a run that was ended at any moment and resumed is the run that was not, bit for bit. Every recipe."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from recipes import RECIPES, STEPS
from runs import Killed, break_off, distance, left, losses, run, tensors

from instar.objective import Objective

POINTS = {
    "within an epoch": ("saved", 3),
    "between two saves": ("step_ended", 5),
    "after an evaluation": ("evaluated", 4),
    "after the last save": ("saved", STEPS),
}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("name", RECIPES)
def test_ended_and_resumed(name: str, point: str, shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    small = shrunk(name)
    break_off(small, tmp_path / "run", *POINTS[point])
    run(small, tmp_path / "run")
    assert left(tmp_path / "run") == left(reference(name))


@pytest.mark.parametrize("name", RECIPES)
def test_dropout_comes_back_too(name: str, shrunk: Callable, tmp_path: Path) -> None:
    drop = ("model.dropout=0.1", "train.prefetch=2")
    run(shrunk(name), tmp_path / "whole", *drop)
    break_off(shrunk(name), tmp_path / "run", "step_ended", 4, *drop)
    run(shrunk(name), tmp_path / "run", *drop)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.parametrize(("name", "prefetch"), [(RECIPES[-2], 0), (RECIPES[-1], 2)])
def test_ended_within_an_accumulated_step(  # noqa: PLR0917
    name: str, prefetch: int, shrunk: Callable, reference: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = ("train.micro_tokens=40", f"train.prefetch={prefetch}")
    wanted = left(reference(name, *pieces))
    forward, calls = Objective.forward, count()

    def dies(self: Objective, batch: object) -> object:
        if next(calls) == 11:
            raise Killed
        return forward(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "forward", dies)
        with pytest.raises(Killed):
            run(shrunk(name), tmp_path / "run", *pieces)
    run(shrunk(name), tmp_path / "run", *pieces)
    assert left(tmp_path / "run") == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_extended_by_an_epoch(name: str, shrunk: Callable, tmp_path: Path) -> None:
    """Ended at an epoch's end, then given one epoch more: as if asked for two at once."""
    small = shrunk(name).but("train.save_every=1 epochs", "train.schedule={kind: constant}")
    if small.config.task.kind == "mlm":
        small = small.but("task.rate=0.2")
    size = run(small, tmp_path / "size", "train.budget=1 epochs", "train.batch_samples=1000")["samples"]
    batch = max(part for part in range(1, size + 1) if size % part == 0 and (part <= 16 or part == size))
    one, two = (f"train.batch_samples={batch}", "train.budget=1 epochs"), ("train.budget=2 epochs",)
    run(small, tmp_path / "whole", *one, *two)
    assert run(small, tmp_path / "run", *one)["samples"] == size
    assert run(small, tmp_path / "run", *one, *two)["samples"] == 2 * size
    assert tensors(tmp_path / "run").keys() == tensors(tmp_path / "whole").keys()
    assert distance(tmp_path / "run", tmp_path / "whole") == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.parametrize("budget", ["0.1 epochs", "0.3 epochs", "0.5 epochs", "1.5 epochs", "77 tokens"])
def test_every_budget_ends(budget: str, shrunk: Callable, tmp_path: Path) -> None:
    """A part of an epoch is rarely a whole number of samples."""
    small = shrunk("text-characters")
    whole = run(small, tmp_path / "run", f"train.budget={budget}", "train.eval_every=null")
    assert whole["stopped"] == "budget spent"
    assert run(small, tmp_path / "run", f"train.budget={budget}", "train.eval_every=null") == whole


def test_a_run_that_stopped_early_stays_where_it_is(shrunk: Callable, tmp_path: Path) -> None:
    early = ("train.early_stopping={patience: 1, min_gain: 100}", "train.eval_every=2 steps")
    first = run(shrunk("text-characters"), tmp_path / "run", *early)
    before = left(tmp_path / "run")
    assert "no gain" in first["stopped"]
    assert first["steps"] == 4
    assert run(shrunk("text-characters"), tmp_path / "run", *early) == first
    assert left(tmp_path / "run") == before


def test_average_is_resumed(shrunk: Callable, tmp_path: Path) -> None:
    average = ("train.average={decay: 0.9}",)
    run(shrunk("text-characters"), tmp_path / "whole", *average)
    break_off(shrunk("text-characters"), tmp_path / "run", "step_ended", 5, *average)
    run(shrunk("text-characters"), tmp_path / "run", *average)
    found = left(tmp_path / "run")
    assert "average.safetensors" in found
    assert found == left(tmp_path / "whole")


def test_an_older_checkpoint_is_a_branch_of_its_own(shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    small = shrunk("text-characters")
    run(small, tmp_path / "run", "train.keep_last=9")
    run(small, tmp_path / "run", "train.keep_last=9", resume=str(tmp_path / "run" / "checkpoint-3"))
    assert left(tmp_path / "run") == left(reference("text-characters"))
    assert sorted(path.name for path in (tmp_path / "run" / "quarantine").iterdir())[-1].startswith("checkpoint-8")
