"""Part 8: the demo as one page and one picture, and the reports of its runs."""

import base64
from dataclasses import dataclass

from instar.core.files.disk import disk_errors
from instar.core.files.durable import replace_bytes
from instar.demo.child import Stage
from instar.demo.folder import DemoFolder
from instar.demo.letters import Letters
from instar.demo.plan import Plan
from instar.demo.speech import PROMPT, Speech, speech_rows
from instar.demo.splice import Splice, splice_rows
from instar.report import build_demo_picture, build_report

FLOOR_NAME = "always a space"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Everything that the demo measured."""

    letters: Letters
    splice: Splice
    speech: Speech


def report_on(stage: Stage) -> None:
    """The report of one run."""
    build_report(stage.folder)


def write_page(folder: DemoFolder, plan: Plan, measured: Measured) -> None:
    """Write demo.png and report.html; the page holds the picture and the figures, and leads to each run's report."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    picture = build_demo_picture(
        plan.letters.folder,
        folder / "demo.png",
        floor=measured.letters.floor,
        floor_name=FLOOR_NAME,
        kill_step=measured.letters.kill_step,
        title="A network learns to fill in the masked letters of speeches",
    )
    environment = Environment(
        loader=PackageLoader("instar.demo"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("demo.html.j2").render(
        picture="data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode(),
        letters=measured.letters,
        speech=measured.speech,
        prompt=PROMPT,
        splice=measured.splice,
        splice_rows=splice_rows(measured.splice),
        speech_rows=speech_rows(measured.speech),
        reports=[(stage.name, f"{stage.folder.name}/report.html") for stage in reported(plan)],
    )
    path = folder / "report.html"
    with disk_errors(path):
        replace_bytes(path, page.encode("utf-8", "backslashreplace"))


def reported(plan: Plan) -> tuple[Stage, ...]:
    """The runs that get a report of their own."""
    return (plan.letters, plan.dna, plan.splice, plan.speech)[: plan.sizes.reports]
