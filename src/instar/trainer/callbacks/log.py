"""Training figures, as lines of metrics.jsonl."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instar.trainer.callback import Callback
from instar.trainer.callbacks.lines import Lines
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState


class Log(Callback):
    """Writes a line every `every` steps and at the end of the budget: means over the steps since the line before.

    Sums stay on the device between lines. They and the length of the file are part of every
    checkpoint, so a resumed run drops the lines past its checkpoint and writes the same again;
    a run that is asked to leave writes no line that an uninterrupted one does not.
    """

    def __init__(
        self, path: Path, every: int, runtime: Runtime, *, counts_correct: bool, watched: Sequence[str] = ()
    ) -> None:
        """`watched` names what `seen` is told of each target; its mean stands in each line."""
        self.watched = tuple(watched)
        self.lines = Lines(path)
        self.every = every
        self.runtime = runtime
        self.counts_correct = counts_correct
        self.seconds = 0.0
        self._sums = torch.zeros(2 + len(self.watched), dtype=torch.float64)
        self._targets = self._tokens = 0
        self._resumed_at = self._last = 0.0

    def fit_started(self, state: TrainState) -> None:
        if self.runtime.is_main:
            self.lines.cut()
        if state.stage and state.step == state.begun.steps:  # a line is of the steps of one stage
            self._sums, self._targets, self._tokens = torch.zeros_like(self._sums), 0, 0
        self._sums = self._sums.to(self.runtime.device)
        self._last = self._resumed_at = time.monotonic()

    def seen(self, watched: Mapping[str, Tensor]) -> None:
        """Add what the forward pass of a piece showed; a rank without targets shows nothing."""
        for number, name in enumerate(self.watched, start=2):
            if name in watched:
                self._sums[number] += watched[name].double().sum()

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        self._sums[:2] += torch.stack([result.total, result.correct]).double()
        self._targets += result.num_targets
        self._tokens += result.num_tokens
        if state.step % self.every == 0 or state.is_spent():
            self._write_training(state, result)

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        if self.runtime.is_main:
            self.lines.append(self._place(state) | dict(scores))

    def state_dict(self) -> dict[str, Any]:
        return {
            "length": self.lines.synced_length() if self.runtime.is_main else 0,
            "seconds": self._elapsed(),
            "sums": self._sums.tolist(),
            "targets": self._targets,
            "tokens": self._tokens,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.lines.length, self.seconds = state["length"], state["seconds"]
        self._sums = torch.tensor(state["sums"], dtype=torch.float64)
        self._targets, self._tokens = state["targets"], state["tokens"]

    def _write_training(self, state: TrainState, result: StepResult) -> None:
        total, correct, *others = self._summed()
        now = time.monotonic()
        record = self._place(state) | {"split": "train", "loss": total / self._targets}
        if self.counts_correct:
            record["accuracy"] = correct / self._targets
        record |= {name: sum_ / self._targets for name, sum_ in zip(self.watched, others, strict=True)}
        record |= {
            "lr": result.lr,
            "grad_norm": float(result.grad_norm),
            "tokens_per_second": self._tokens / max(now - self._last, 1e-9),
        }
        self._sums.zero_()
        self._targets = self._tokens = 0
        self._last = now
        if self.runtime.is_main:
            self.lines.append(record)
        self.announce.logged(state, record)

    def _summed(self) -> list[float]:
        sums: Tensor = self.runtime.sum(self._sums)
        numbers: list[float] = sums.tolist()
        return numbers

    def _place(self, state: TrainState) -> dict[str, Any]:
        counters = state.counters
        found = {
            "step": counters.steps,
            "samples": counters.samples,
            "tokens": counters.tokens,
            "seconds": round(self._elapsed(), 3),
        }
        return found | ({"stage": state.stage + 1} if state.num_stages > 1 else {})

    def _elapsed(self) -> float:
        return self.seconds + (time.monotonic() - self._resumed_at if self._resumed_at else 0.0)
