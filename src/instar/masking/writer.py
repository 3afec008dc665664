"""The thread that writes what was measured, so that training does not wait for it.

What step n measured is handed over when n ends and may be read by step n + 2, never before: that gives the
thread a whole step of time, and makes what a step reads a function of its number, not of anybody's speed.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

LAG = 2
"""A step reads what was measured by steps at least so much before it."""


class Learner(Protocol):
    """What the thread does with measurements; `Any` is the learner's own kind of change."""

    def flush(self, measured: Any) -> Any:
        """The change that a step's measurements make, written down where it survives; not yet visible."""
        ...

    def apply(self, change: Any) -> None:
        """Make a change visible to those who read."""
        ...

    def sync(self) -> None:
        """All that was flushed is on the disk when this returns."""
        ...


@dataclass(frozen=True)
class _Job:
    step: int
    measured: Callable[[], Any] | None
    """Waits for the device and gives the measurements."""
    change: Any = None
    """Or: a change that was flushed before."""


class Writer:
    """One background thread with a learner; errors of the thread are raised in the next call."""

    def __init__(self, learner: Learner, step: int = 0) -> None:
        """Begin before step `step`: all that earlier steps measured is visible, but for what is handed over now."""
        self._learner = learner
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._moved = threading.Condition()
        self._applied = self._flushed = self._handed = step - 1
        self._allowed = step - LAG
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def hand_over(self, step: int, measured: Callable[[], Any]) -> None:
        """Give the measurements of a step, in the order of steps; returns at once."""
        self._start(_Job(step, measured))

    def hand_back(self, step: int, change: Any) -> None:
        """Give a change of the last step that was flushed before a restart."""
        with self._moved:
            self._applied = min(self._applied, step - 1)
        self._start(_Job(step, None, change))

    def before_reading(self, step: int) -> None:
        """Wait until all that `step` is to see is visible; as a rule it is."""
        self._wait(lambda: self._applied >= min(step - LAG, self._handed))

    def after_reading(self, step: int) -> None:
        """`step` has read: what the step before it measured may become visible."""
        with self._moved:
            self._allowed = max(self._allowed, step - 1)
            self._moved.notify_all()

    def flush(self) -> None:
        """Wait until all that was handed over is written down and on the disk."""
        self._wait(lambda: self._flushed >= self._handed)
        self._learner.sync()

    def finish(self) -> None:
        """Make everything visible, and end the thread."""
        with self._moved:
            self._allowed = 1 << 62
            self._moved.notify_all()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None
        self._check()

    def abandon(self) -> None:
        """End the thread after what it is doing; for a run that failed."""
        if self._error is None:
            self._error = RuntimeError("the run was abandoned")
        with self._moved:
            self._moved.notify_all()
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _start(self, job: _Job) -> None:
        self._check()
        self._handed = max(self._handed, job.step)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="masking probabilities", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _wait(self, done: Callable[[], bool]) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._error is not None or done())
        self._check()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._error is not None:
                continue
            try:
                change = job.change if job.measured is None else self._learner.flush(job.measured())
                self._tell(flushed=job.step)
                if self._may_apply(job.step):
                    self._learner.apply(change)
                    self._tell(applied=job.step)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that trains
                with self._moved:
                    self._error = error
                    self._moved.notify_all()

    def _may_apply(self, step: int) -> bool:
        """Wait until a step's change may become visible; False if the run was given up."""
        with self._moved:
            self._moved.wait_for(lambda: self._error is not None or self._allowed >= step)
            return self._error is None

    def _tell(self, *, flushed: int | None = None, applied: int | None = None) -> None:
        with self._moved:
            self._flushed = self._flushed if flushed is None else flushed
            self._applied = self._applied if applied is None else applied
            self._moved.notify_all()
