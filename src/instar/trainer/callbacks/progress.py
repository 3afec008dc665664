"""What a person sees while a run goes on: a live bar, or plain lines where there is no terminal."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from instar.trainer.callback import Callback
from instar.trainer.state import StepResult, TrainState

_SECONDS_BETWEEN_LINES = 5.0


class ProgressBar(Callback):
    """Loss, learning rate, tokens a second and the time left; on stderr, for stdout carries data."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._started = self._last_line = 0.0
        self._begun = 0.0

    def fit_started(self, state: TrainState) -> None:
        self._started = self._last_line = time.monotonic()
        self._begun = state.progress()
        if state.num_stages > 1:
            self.console.print(f"stage {state.stage + 1} of {state.num_stages}: {state.budget}")
        if state.step > state.begun.steps:
            self.console.print(f"resumed at step {state.step} ({100 * self._begun:.0f} % of {state.budget})")
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=self.console)
            self._bar.update(self._bar.add_task("training", total=1.0), completed=self._begun)
            self._bar.start()

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=min(1.0, state.progress()))

    def logged(self, state: TrainState, record: Mapping[str, Any]) -> None:
        figures = _figures(record)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=f"step {state.step}  {figures}")
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES or state.is_done():
            self._last_line = time.monotonic()
            self.console.print(
                f"step {state.step}  {100 * state.progress():.0f} %  {figures}  left {self._left(state)}",
                soft_wrap=True,
            )

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        shown = {name: value for name, value in scores.items() if isinstance(value, float)}
        line = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self.console.print(f"step {state.step}  {scores.get('split', 'eval')}: {line}", soft_wrap=True, highlight=False)

    def saved(self, state: TrainState, folder: Path) -> None:
        if self._bar is None and state.is_done():
            self.console.print(f"saved {folder}", soft_wrap=True, highlight=False)

    def fit_failed(self, state: TrainState, error: BaseException) -> None:
        self.fit_ended(state)

    def fit_ended(self, state: TrainState) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if state.stop_reason is not None:
            self.console.print(f"stopped at step {state.step}: {state.stop_reason}")

    def _left(self, state: TrainState) -> str:
        done = state.progress() - self._begun
        if done <= 0:
            return "?"
        seconds = (time.monotonic() - self._started) / done * max(0.0, 1 - state.progress())
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


_ELSEWHERE = {"step", "samples", "tokens", "seconds", "split", "stage", "loss", "lr", "grad_norm", "tokens_per_second"}
"""Fields of a line that are no figures of the model, or are shown in a way of their own."""


def _figures(record: Mapping[str, Any]) -> str:
    """Loss, its terms and the figures that the run asks for, rate and speed."""
    named = {name: value for name, value in record.items() if name not in _ELSEWHERE}
    parts = [f"loss {record['loss']:.4f}", *(f"{name} {value:.3f}" for name, value in named.items())]
    parts += [f"lr {record['lr']:.2e}", f"{record['tokens_per_second']:,.0f} tokens/s"]
    return "  ".join(parts)
