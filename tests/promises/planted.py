"""Classic flaws of trainers, each planted in the real one; a check that a promise makes must find every one.

A flaw is a function that patches the code. A check runs the trainer and returns what is wrong ("" where nothing is).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import Small, lines_of
from runs import SMOOTH, break_off, distance, left, losses, run

from instar.core import seeds
from instar.data.prefetch import Prefetch
from instar.data.stream import Stream
from instar.inference.evaluate import evaluation_mode
from instar.objective import Objective
from instar.task import StepContext
from instar.trainer import Callbacks, TrainState, loop, snapshot
from instar.trainer.callbacks import lines
from instar.trainer.state import Counters

Patch = pytest.MonkeyPatch


# ---- checks ----


def resumes(small: Small, folder: Path) -> str:
    """Promise 1: ended after a save and resumed, with dropout."""
    drop = ("model.dropout=0.1", "train.early_stopping={patience: 50}", "train.log_every=4")
    run(small, folder / "whole", *drop)
    break_off(small, folder / "run", "evaluated", 8, *drop)
    run(small, folder / "run", *drop)
    wanted, found = left(folder / "whole"), left(folder / "run")
    return ", ".join(key for key in wanted if found.get(key) != wanted[key])


def pieces_do_not_count(small: Small, folder: Path) -> str:
    """Promise 2: the size of micro-batches."""
    run(small, folder / "whole", SMOOTH)
    run(small, folder / "pieces", SMOOTH, "train.micro_tokens=50")
    apart = distance(folder / "whole", folder / "pieces")
    return f"weights are {apart:.1e} apart" if apart >= 1e-6 else ""


def looking_does_not_count(small: Small, folder: Path) -> str:
    """Promise 2: evaluating and saving, with dropout."""
    run(small, folder / "seldom", "model.dropout=0.1", "train.eval_every=8 steps")
    run(small, folder / "often", "model.dropout=0.1", "train.eval_every=1 steps", "train.save_every=1 steps")
    apart = distance(folder / "seldom", folder / "often")
    return f"weights are {apart:.1e} apart" if apart else ""


def is_repeated(small: Small, folder: Path) -> str:
    """Two equal runs are equal."""
    run(small, folder / "once")
    run(small, folder / "twice")
    return "" if losses(folder / "once") == losses(folder / "twice") else "two equal runs differ"


def ends_where_asked(small: Small, folder: Path) -> str:
    """The budget is spent exactly."""
    done = run(small, folder / "run")["steps"]
    return "" if done == 8 else f"{done} steps, not 8"


def is_as_recorded(small: Small, folder: Path) -> str:
    """Golden: the trajectory of the code as it is (made here, before the flaw) to 1e-4."""
    run(small, folder / "run")
    found = lines_of(folder / "run" / "metrics.jsonl", "train")
    wanted = lines_of(folder / "sound" / "metrics.jsonl", "train")
    same = all(
        mine[key] == pytest.approx(theirs[key], rel=1e-4)
        for mine, theirs in zip(found, wanted, strict=True)
        for key in ("loss", "lr")
    )
    return "" if same else "the trajectory is another"


# ---- flaws ----


def mean_of_each_piece(patch: Patch) -> None:
    forward = Objective.forward

    def flawed(self: Objective, batch: Any) -> Any:
        outcome = forward(self, batch)
        return replace(outcome, total=outcome.total / batch.num_targets * 10)

    patch.setattr(Objective, "forward", flawed)


def optimizer_state_forgotten(patch: Patch) -> None:
    patch.setattr(snapshot, "_load_optimizer", lambda *_: None)


def data_begin_anew(patch: Patch) -> None:
    steps = Stream.steps
    patch.setattr(Stream, "steps", lambda self, start=0: steps(self, 0))


def masks_of_no_step(patch: Patch) -> None:
    calls = count()
    patch.setattr(StepContext, "key", lambda self, purpose: seeds.derive(self.seed, purpose, next(calls)))


def gradients_are_kept(patch: Patch) -> None:
    patch.setattr(torch.optim.AdamW, "zero_grad", lambda self, set_to_none=True: None)


def rate_of_the_next_step(patch: Patch) -> None:
    rate = TrainState.set_rate

    def flawed(self: TrainState, batch: Any) -> float:
        now, self.counters = self.counters, Counters(**vars(self.counters))
        self.counters.add(batch)
        try:
            return rate(self, batch)
        finally:
            self.counters = now

    patch.setattr(TrainState, "set_rate", flawed)


def one_step_too_many(patch: Patch) -> None:
    patch.setattr(TrainState, "is_spent", lambda self: self.counters.steps > self.budget.amount)


def callbacks_forget(patch: Patch) -> None:
    patch.setattr(Callbacks, "load_state_dict", lambda self, state: None)


def dropout_of_no_step(patch: Patch) -> None:
    patch.setattr(loop, "seed_everything", lambda seed: None)


def evaluation_leaves_its_mode(patch: Patch) -> None:
    from instar.trainer.callbacks.evaluate import Evaluate

    def flawed(self: Evaluate, state: TrainState) -> Any:
        scores = self.evaluate()
        state.network.eval()
        return scores

    patch.setattr(Evaluate, "_scores", flawed)
    patch.setattr(evaluation_mode, "__exit__", lambda self, *error: None)


def log_is_not_cut(patch: Patch) -> None:
    def flawed(self: lines.Lines) -> None:
        self.length = self.path.stat().st_size if self.path.exists() else 0

    patch.setattr(lines.Lines, "cut", flawed)


def clipping_forgotten(patch: Patch) -> None:
    norm = torch.nn.utils.clip_grad_norm_
    patch.setattr(torch.nn.utils, "clip_grad_norm_", lambda own, _, **how: norm(own, 1e9, **how))


def prefetch_loses_a_step(patch: Patch) -> None:
    after = Prefetch.__next__

    def flawed(self: Prefetch) -> Any:
        after(self)
        return after(self)

    patch.setattr(Prefetch, "__next__", flawed)


@dataclass(frozen=True)
class Flaw:
    """What is planted, and the check that has to find it."""

    plant: Callable[[Patch], None]
    check: Callable[[Small, Path], str]


def flaws() -> Iterator[Flaw]:
    yield Flaw(mean_of_each_piece, pieces_do_not_count)
    yield Flaw(optimizer_state_forgotten, resumes)
    yield Flaw(data_begin_anew, resumes)
    yield Flaw(masks_of_no_step, is_repeated)
    yield Flaw(gradients_are_kept, is_as_recorded)
    yield Flaw(rate_of_the_next_step, is_as_recorded)
    yield Flaw(one_step_too_many, ends_where_asked)
    yield Flaw(callbacks_forget, resumes)
    yield Flaw(dropout_of_no_step, resumes)
    yield Flaw(evaluation_leaves_its_mode, looking_does_not_count)
    yield Flaw(log_is_not_cut, resumes)
    yield Flaw(clipping_forgotten, is_as_recorded)
    yield Flaw(prefetch_loses_a_step, is_as_recorded)
