"""Saving, every so often."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from instar.checkpoint import protocol
from instar.core.errors import DiskError
from instar.core.rundir import RunFolder
from instar.trainer.callback import Callback
from instar.trainer.callbacks.early_stop import is_better, worst
from instar.trainer.callbacks.interval import Due
from instar.trainer.state import StepResult, TrainState

MOST_FAILURES = 3


class Captured(Protocol):
    """A moment of a run: the main process writes it, and all finish together."""

    def write(self, folder: Path) -> None:
        """Put everything into the folder."""
        ...

    def finish(self) -> None:
        """Do this rank's part of what is left to do."""
        ...


class Checkpoint(Callback):
    """Publishes a checkpoint when due, before the rate begins to fall, and when the run ends.

    Keeps the last few, the best, and the one before the fall: from there a longer run goes on at the peak rate.

    A save that fails for the disk is told and tried again when next due; the third failure in a
    row ends the run. The checkpoint before stays whole.
    """

    def __init__(
        self,
        run: RunFolder,
        capture: Callable[[], Captured],
        due: Due,
        *,
        keep_last: int,
        best_metric: str,
        warn: Callable[[str], None],
    ) -> None:
        self.run = run
        self.capture = capture
        self.due = due
        self.keep_last = keep_last
        self.best_metric = best_metric
        self.warn = warn
        self.best: float = worst(best_metric)
        self.best_step: int | None = None
        self.peak_steps: list[int] = []
        self._is_before_fall = False
        self._is_asked = False
        self._failures = 0

    def fit_started(self, state: TrainState) -> None:
        self._is_before_fall = is_before_fall(state)

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        value = scores.get(self.best_metric)
        if scores.get("split") == "eval" and value is not None and is_better(value, self.best, metric=self.best_metric):
            self.best, self.best_step = value, state.step

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        is_due = self.due.after(state, state.counters.samples - len(result.samples_D))
        if self._is_before_fall and not is_before_fall(state):
            self.peak_steps.append(state.step)
        self._is_before_fall = is_before_fall(state)
        is_due, self._is_asked = is_due or self._is_asked, False
        if is_due or state.is_done() or state.step in (self.best_step, *self.peak_steps):
            self.save(state)
            self.due.done()

    def ask(self) -> None:
        """Publish a checkpoint of this step, whether or not it is due."""
        self._is_asked = True

    def save(self, state: TrainState) -> None:
        """Publish this step's checkpoint and let go of old ones; all ranks capture it, the main one writes."""
        runtime = self.due.runtime
        folder = self.run.checkpoint(state.step)
        captured = self.capture()
        try:
            error = self._publish(folder, captured.write) if runtime.is_main else None
        finally:
            captured.finish()
        if not runtime.any(error is not None):
            self._failures = 0
            self.announce.saved(state, folder)
            return
        self._failures += 1
        error = error or DiskError(f"{folder}: the main process could not save")
        if self._failures >= MOST_FAILURES or state.is_done():
            raise error
        if runtime.is_main:
            self.warn(f"{error}; training goes on and the next save tries again")

    def _publish(self, folder: Path, write: Callable[[Path], None]) -> DiskError | None:
        try:
            protocol.publish(folder, write)
            kept = [self.run.checkpoint(step) for step in (self.best_step, *self.peak_steps) if step is not None]
            protocol.rotate(self.run, self.keep_last, kept)
        except DiskError as error:
            return error
        return None

    def state_dict(self) -> dict[str, Any]:
        best = None if self.best_step is None else self.best
        return {"best": best, "best_step": self.best_step, "peak_steps": self.peak_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best_step, self.peak_steps = state["best_step"], list(state.get("peak_steps", ()))
        self.best = worst(self.best_metric) if state["best"] is None else state["best"]


def is_before_fall(state: TrainState) -> bool:
    """True while the step to come is made before the rate falls to its end; False where it never does."""
    begins = state.schedule.decay_begins(state.totals)
    return begins is not None and state.progress() < begins - 1e-9
