"""Leaving when asked to: finish the step, save, go."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from instar.trainer.callback import Callback
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState

PREEMPTED = "preempted"
INTERRUPTED = "interrupted"


class Signals(Callback):
    """SIGTERM and SIGINT end the run after the step; a second signal ends the process at once."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.asked: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def fit_started(self, state: TrainState) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers; a caller's thread keeps the caller's
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._ask)

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if self.runtime.any(self.asked is not None):
            state.stop_reason = INTERRUPTED if self.runtime.any(self.asked == INTERRUPTED) else PREEMPTED

    def fit_failed(self, state: TrainState, error: BaseException) -> None:
        self._restore()

    def fit_ended(self, state: TrainState) -> None:
        self._restore()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.asked is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = INTERRUPTED if number == signal.SIGINT else PREEMPTED

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
