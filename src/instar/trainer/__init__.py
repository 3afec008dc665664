"""The loop, one optimizer step, the state they share, the runtime and the callbacks."""

from instar.trainer.callback import Callback, Callbacks
from instar.trainer.loop import fit
from instar.trainer.packed import PackedSteps
from instar.trainer.runtime import Runtime
from instar.trainer.state import Counters, StepResult, TrainState
from instar.trainer.step import StepLimits, optimizer_step

__all__ = [
    "Callback",
    "Callbacks",
    "Counters",
    "PackedSteps",
    "Runtime",
    "StepLimits",
    "StepResult",
    "TrainState",
    "fit",
    "optimizer_step",
]
