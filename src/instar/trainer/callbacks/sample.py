"""What the network says of a few fixed held-out rows, every so often."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.trainer.callback import Callback
from instar.trainer.callbacks.interval import Due
from instar.trainer.callbacks.lines import Lines
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState

MOST_PRINTED = 3
"""Rows of a preview that the terminal shows; the file has all."""


class Sample(Callback):
    """Writes a line of samples.jsonl for each row, and shows the first few; the same rows every time.

    At each evaluation, or when `due` says. Costs nothing on other steps.
    """

    def __init__(
        self,
        path: Path,
        preview: Callable[[], Iterable[Mapping[str, Any]]],
        runtime: Runtime,
        *,
        due: Due | None = None,
        console: Console | None = None,
    ) -> None:
        """`due` None: whenever scores of held-out data are known; `console` None: nothing is shown."""
        self.lines = Lines(path)
        self.preview = preview
        self.runtime = runtime
        self.due = due
        self.console = console

    def fit_started(self, state: TrainState) -> None:
        if self.runtime.is_main:
            self.lines.cut()

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if self.due is not None and self.due.after(state, state.counters.samples - len(result.samples_D)):
            self._sample(state)
            self.due.done()

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        if self.due is None:
            self._sample(state)

    def _sample(self, state: TrainState) -> None:
        if not self.runtime.is_main:
            if self.runtime.is_sharded:
                deque(self.preview(), maxlen=0)  # the main process cannot go forward alone
            return
        for number, row in enumerate(self.preview()):
            self.lines.append({"step": state.step, **row})
            if self.console is not None and number < MOST_PRINTED:
                self.console.print(state.task.answer.line(row), soft_wrap=True)

    def state_dict(self) -> dict[str, Any]:
        return {"length": self.lines.synced_length() if self.runtime.is_main else 0}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.lines.length = state["length"]
