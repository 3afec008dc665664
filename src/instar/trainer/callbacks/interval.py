"""When something is due that happens every so often."""

import time

from instar.core.budget import Budget
from instar.trainer.runtime import Runtime
from instar.trainer.state import TrainState


class Due:
    """Says after each step whether an interval of steps, epochs or minutes has just ended.

    Steps are counted from the start of the run, epochs from that of its stage, so a restart does not shift them.
    Minutes are read from the main process's clock; all ranks agree. Where `done` is called, they count from the end of
    what was due, so that what takes longer than its interval is not due again at once.
    """

    def __init__(self, every: Budget | None, runtime: Runtime) -> None:
        self.every = every
        self.runtime = runtime
        self._since = time.monotonic()

    def after(self, state: TrainState, samples_before: int) -> bool:
        """True when the step that began at `samples_before` samples ended an interval."""
        if self.every is None:
            return False
        if self.every.unit == "steps":
            return state.step % int(self.every.amount) == 0
        if self.every.unit == "epochs":
            period = self.every.amount * state.totals["samples"] / state.totals["epochs"]
            begun = state.begun.samples
            return (state.counters.samples - begun) // period > (samples_before - begun) // period
        is_over = self.runtime.is_main and time.monotonic() - self._since >= 60 * self.every.amount
        if self.runtime.any(is_over):
            self._since = time.monotonic()
            return True
        return False

    def done(self) -> None:
        """What was due has been done: the next minutes count from now."""
        self._since = time.monotonic()
