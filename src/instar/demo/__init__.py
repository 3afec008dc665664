"""`demo`: everything once, on real text and real DNA, in a few minutes on two cores. What it prints, it measured."""

import time
from itertools import islice
from pathlib import Path

from instar.demo.child import Children
from instar.demo.folder import DemoFolder, claim
from instar.demo.leaving import cpu_seconds, load, showing
from instar.demo.letters import show_untrained, train_and_kill
from instar.demo.page import Measured, report_on, reported, write_page
from instar.demo.plan import FULL, SMALL, Plan, make_plan
from instar.demo.screen import Screen
from instar.demo.speech import write
from instar.demo.splice import classify
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
    with showing(folder) as processes:
        return _show(screen, plan, folder, processes)


def _show(screen: Screen, plan: Plan, folder: DemoFolder, processes: Children) -> Measured:
    began, work = time.monotonic(), cpu_seconds()
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
            ("it took", f"{time.monotonic() - began:.0f} s; computing {cpu_seconds() - work:.0f} s{load()}"),
        ]
    )
    screen.say("With a text of your own, say mine.txt:", style="bold")
    for command in NEXT:
        screen.line(command)
    return measured
