"""What happens when a gradient stops being a number."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from instar.core.errors import NonFiniteError
from instar.trainer.callback import Callback
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState

OnNonFinite = Literal["skip", "stop"]
MOST_IN_A_ROW = 3
_DEVICE_WAITS = 10  # a GPU's flags are read this many steps at a time, so that no step waits


class NonFinite(Callback):
    """Counts skipped steps; ends the run at the third in a row, or at once if so asked."""

    def __init__(self, policy: OnNonFinite, runtime: Runtime) -> None:
        self.borne = MOST_IN_A_ROW if policy == "skip" else 1
        self.waits = 1 if runtime.device.type == "cpu" else _DEVICE_WAITS
        self.skipped = 0
        self.in_a_row = 0
        self._pending: list[tuple[int, list[int], Tensor]] = []

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        self._pending.append((state.step, result.samples_D[:8].tolist(), result.is_finite))
        if len(self._pending) >= self.waits or state.is_done():
            self.settle()

    def settle(self) -> None:
        """Read the flags that are pending; NonFiniteError if too many steps failed."""
        pending, self._pending = self._pending, []
        for step, samples, is_finite in pending:
            if bool(is_finite):
                self.in_a_row = 0
                continue
            self.skipped += 1
            self.in_a_row += 1
            if self.in_a_row >= self.borne:
                raise NonFiniteError(
                    f"step {step}: the gradient is not finite, {self.in_a_row} step(s) in a row (samples {samples} "
                    "...); the weights are as they were before. Lower train.optimizer.lr, lengthen the warm-up, or "
                    "look at these samples; the last checkpoint is whole"
                )

    def state_dict(self) -> dict[str, Any]:
        self.settle()
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
