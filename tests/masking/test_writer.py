"""The writing thread: what a step reads depends on its number alone, and errors come to whom they concern."""

import threading
import time
from typing import Any

import pytest

from instar.masking.writer import Writer


class Slow:
    """A learner of step numbers that takes its time."""

    def __init__(self, seconds: float = 0.0, fails_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.flushed: list[int] = []
        self.seconds, self.fails_at = seconds, fails_at

    def flush(self, measured: int) -> int:
        time.sleep(self.seconds)
        if measured == self.fails_at:
            raise OSError(28, "full")
        self.flushed.append(measured)
        return measured

    def apply(self, change: int) -> None:
        time.sleep(self.seconds)
        self.seen.append(change)

    def sync(self) -> None: ...


def steps(writer: Writer, learner: Slow, first: int, last: int) -> list[list[int]]:
    """What each step saw."""
    found = []
    for step in range(first, last):
        writer.before_reading(step)
        found.append(list(learner.seen))
        time.sleep(0.0005)
        found[-1] += learner.seen[len(found[-1]) :]  # nothing may come while a step reads
        writer.after_reading(step)
        writer.hand_over(step, lambda step=step: step)
    return found


@pytest.mark.parametrize("seconds", [0.0, 0.002])
def test_a_step_sees_what_was_measured_two_steps_before(seconds: float) -> None:
    learner = Slow(seconds)
    writer = Writer(learner)
    found = steps(writer, learner, 0, 12)
    assert found == [list(range(max(0, step - 1))) for step in range(12)]
    writer.finish()
    assert learner.seen == list(range(12))


def test_settling_writes_all_down_and_shows_nothing_early() -> None:
    learner = Slow(0.001)
    writer = Writer(learner)
    steps(writer, learner, 0, 5)
    writer.flush()
    assert learner.flushed == [0, 1, 2, 3, 4]
    assert learner.seen == [0, 1, 2, 3]
    writer.before_reading(5)
    assert learner.seen == [0, 1, 2, 3]
    writer.after_reading(5)
    writer.finish()
    assert learner.seen == [0, 1, 2, 3, 4]


def test_a_restart_sees_the_same() -> None:
    whole, learner = Slow(), Slow()
    wanted = steps(Writer(whole), whole, 0, 9)
    learner.seen = [0, 1, 2, 3]
    writer = Writer(learner, step=5)
    writer.hand_back(4, 4)
    assert steps(writer, learner, 5, 9) == wanted[5:]
    writer.finish()


def test_the_threads_error_is_raised_where_training_runs() -> None:
    learner = Slow(fails_at=2)
    writer = Writer(learner)
    with pytest.raises(OSError, match="full"):
        steps(writer, learner, 0, 9)
    with pytest.raises(OSError, match="full"):
        writer.flush()
    writer.abandon()
    assert learner.seen == [0, 1][: len(learner.seen)]


def test_handing_over_does_not_wait() -> None:
    gate, flushed = threading.Event(), []

    class Stuck(Slow):
        def flush(self, measured: Any) -> Any:
            flushed.append(gate.wait(20))
            return measured

    writer = Writer(Stuck())
    writer.before_reading(0)
    writer.after_reading(0)
    writer.hand_over(0, lambda: 0)
    writer.before_reading(1)
    assert flushed == []
    gate.set()
    writer.after_reading(1)
    writer.finish()
    assert flushed == [True]
