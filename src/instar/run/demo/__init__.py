"""`demo`: everything once, on real text and real DNA, in a few minutes on two cores. What it prints, it measured."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import FrameType

from instar.core.errors import InterruptedRunError, PreemptedError
from instar.run.demo.child import Children, children
from instar.run.demo.folder import DemoFolder, claim
from instar.run.demo.letters import show_untrained, train_and_kill
from instar.run.demo.page import Measured, report_on, reported, write_page
from instar.run.demo.plan import FULL, SMALL, Plan, make_plan
from instar.run.demo.screen import Screen
from instar.run.demo.speech import write
from instar.run.demo.splice import classify
from instar.run.doctor import doctor

NEXT = (
    "instar init text-characters --output mine.yaml",
    "instar train mine.yaml data.train.path=mine.txt",
    "instar report runs/mine",
)
"""What a newcomer can type next."""
_DOCTOR_LINES = 5


def demo(output: Path, *, small: bool = False) -> Measured:
    """Run the demo in the folder `output`; returns what was measured.

    A folder of an earlier demo is used again: gone on with if that demo was interrupted, else replaced. OutputError
    (and nothing touched) if the folder holds anything else.
    """
    sizes = SMALL if small else FULL
    plan = make_plan(DemoFolder(output), sizes)
    folder, found = claim(output, plan.name)
    screen = Screen()
    screen.found(output, found)
    try:
        with _one_thread(), _leaving_when_asked(), children() as processes:
            measured = _show(screen, plan, folder, processes)
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted; the same command goes on in {output}") from None
    folder.note(done=True)
    return measured


def _show(screen: Screen, plan: Plan, folder: DemoFolder, processes: Children) -> Measured:
    began, work = time.monotonic(), _cpu_seconds()
    screen.part(1, "This machine (more: instar doctor)")
    for finding in islice(doctor(folder.path), _DOCTOR_LINES):
        screen.line(str(finding))
    subject, floor = show_untrained(screen, plan)
    processes.behind([plan.twin, plan.speech])
    letters = train_and_kill(screen, plan, folder, processes, (subject, floor))
    splice = classify(screen, plan, processes)
    speech = write(screen, plan, processes)
    measured = Measured(letters=letters, splice=splice, speech=speech)
    screen.part(8, "Pictures")
    for stage in reported(plan):
        report_on(stage)
    write_page(folder, plan, measured)
    screen.table(
        [
            ("all of this on one page", str(folder / "report.html")),
            ("the picture", str(folder / "demo.png")),
            ("it took", f"{time.monotonic() - began:.0f} s; computing {_cpu_seconds() - work:.0f} s{_load()}"),
        ]
    )
    screen.say("With a text of your own, say mine.txt:", style="bold")
    for command in NEXT:
        screen.line(command)
    return measured


def _cpu_seconds() -> float:
    """Seconds that cores worked for this process and for those of its children that ended."""
    return sum(os.times()[:4])


def _load() -> str:
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
        raise PreemptedError("asked to leave (SIGTERM); the same command goes on")

    try:
        before = signal.signal(signal.SIGTERM, leave)
    except ValueError:  # not the main thread: the caller's handlers stay
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
