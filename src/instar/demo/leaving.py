"""How a demo is left: at its end, by Ctrl-C or by SIGTERM; no process outlives it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from instar.core.errors import InterruptedRunError, PreemptedError
from instar.demo.child import Children, children
from instar.demo.folder import DemoFolder


@contextmanager
def showing(folder: DemoFolder) -> Iterator[Children]:
    """The demo's processes, while it shows; when it has shown all, its folder records it."""
    try:
        with _one_thread(), _leaving_when_asked(), children() as processes:
            yield processes
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; the same command resumes in {folder.path}") from None
    folder.note(done=True)


def cpu_seconds() -> float:
    """Seconds that cores worked for this process and for those of its children that ended."""
    return sum(os.times()[:4])


def load() -> str:
    """How busy the machine is, where the system reports it."""
    return f", on a machine with a load of {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


@contextmanager
def _one_thread() -> Iterator[None]:
    """This process computes beside two that train: with more than one thread it would only be in their way."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _leaving_when_asked() -> Iterator[None]:
    """SIGTERM ends the demo as cleanly as Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise PreemptedError("asked to leave (SIGTERM); the same command resumes")

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread: the caller's handlers stay
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
