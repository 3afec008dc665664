"""Training figures, as lines of metrics.jsonl."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from instar.objective import Objective
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

    def __init__(self, path: Path, every: int, runtime: Runtime, objective: Objective) -> None:
        """The objective's terms, where there are several, and its figures stand in each line beside the loss."""
        self.lines = Lines(path)
        self.every = every
        self.runtime = runtime
        self.figures = dict(objective.figures)
        sizes = {"loss": 1} | {name: self.figures[name].size if name in self.figures else 1 for name in objective.names}
        self.seconds = 0.0
        self._sums = {name: torch.zeros(size, dtype=torch.float64) for name, size in sizes.items()}
        self._targets = self._tokens = 0
        self._resumed_at = self._last = 0.0

    def fit_started(self, state: TrainState) -> None:
        if self.runtime.is_main:
            self.lines.cut()
        if state.stage and state.step == state.begun.steps:  # a line is of the steps of one stage
            self._sums = {name: torch.zeros_like(sums) for name, sums in self._sums.items()}
            self._targets = self._tokens = 0
        self._sums = {name: sums.to(self.runtime.device) for name, sums in self._sums.items()}
        self._last = self._resumed_at = time.monotonic()

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        for name, value in {"loss": result.total, **result.figures}.items():
            self._sums[name] += value.double()
        self._targets += result.num_targets
        self._tokens += result.num_tokens
        if state.step % self.every == 0 or state.is_spent():
            self._write_training(state, result)

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        if self.runtime.is_main:
            self.lines.append(self._counted(state) | dict(scores))

    def state_dict(self) -> dict[str, Any]:
        return {
            "length": self.lines.synced_length() if self.runtime.is_main else 0,
            "seconds": self._elapsed(),
            "sums": {name: sums.tolist() for name, sums in self._sums.items()},
            "targets": self._targets,
            "tokens": self._tokens,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.lines.length, self.seconds = state["length"], state["seconds"]
        saved = state["sums"]
        if isinstance(saved, list):  # of the loss, hits, and figures in the order of the run file
            saved = {name: [value] for name, value in zip(self._sums, saved, strict=False)}
        for name in self._sums.keys() & saved.keys():
            if len(saved[name]) == len(self._sums[name]):
                self._sums[name] = torch.tensor(saved[name], dtype=torch.float64)
        self._targets, self._tokens = state["targets"], state["tokens"]

    def _write_training(self, state: TrainState, result: StepResult) -> None:
        sums = self._summed()
        now = time.monotonic()
        record = self._counted(state) | {"split": "train"}
        for name, values in sums.items():
            figure = self.figures.get(name)
            record[name] = values[0] / self._targets if figure is None else figure.value(values, self._targets)
        record |= {
            "lr": result.lr,
            "grad_norm": float(result.grad_norm),
            "tokens_per_second": self._tokens / max(now - self._last, 1e-9),
        }
        for value in self._sums.values():
            value.zero_()
        self._targets = self._tokens = 0
        self._last = now
        if self.runtime.is_main:
            self.lines.append(record)
        self.announce.logged(state, record)

    def _summed(self) -> dict[str, list[float]]:
        """The sums of all ranks, in one exchange."""
        sizes = [len(sums) for sums in self._sums.values()]
        parts = self.runtime.sum(torch.cat(list(self._sums.values()))).cpu().split(sizes)
        return {name: part.tolist() for name, part in zip(self._sums, parts, strict=True)}

    def _counted(self, state: TrainState) -> dict[str, Any]:
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
