"""`demo --genome`: masking that follows the model beside uniform masking on a chromosome, and both in a browser."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instar.core.files.disk import disk_errors
from instar.core.files.durable import replace_bytes
from instar.core.rundir import RunFolder
from instar.data.source import Genome
from instar.demo.beside import (
    Arm,
    Beside,
    Floats,
    Ints,
    annotation_of_yeast,
    compare,
    error_of,
    masked_by_journal,
    masked_uniformly,
    on_chromosomes,
    window_losses,
)
from instar.demo.child import Child, Children, Stage
from instar.demo.folder import DemoFolder, claim
from instar.demo.leaving import cpu_seconds, load, showing
from instar.demo.network import Subject, untrained
from instar.demo.plan import every, name_of, stage_of
from instar.demo.screen import Bar, Screen
from instar.genome.annotation import Feature
from instar.genome.coordinates import Interval
from instar.genome.track import Track, runs
from instar.report import build_report
from instar.report.browser import BrowserTrack, browser_page
from instar.tracks.probe import Asked, probe
from instar.tracks.stored import Stored, open_stored, sizes_of
from instar.tracks.transfer import features_of
from instar.use.report import report

_PAUSE = 0.1
PAGE = "browser.html"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is trained and shown."""

    steps: int = 300
    """Of each run; about a minute on two idle cores."""
    batch_tokens: int = 2048
    """Of each step."""
    bases: int = 12_000
    """Of the page, from the chromosome's first on: a telomere, repeats and genes."""
    probe_rate: float | None = None
    """Share of the bases that a probe hides at once; None: as in training."""
    reports_both: bool = True
    """Whether the uniform run gets a report of its own too."""


FULL = Sizes()
SMALL = Sizes(steps=40, bases=3_000, probe_rate=0.5, reports_both=False)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The two runs: the same seed, data and budget."""

    sizes: Sizes
    uniform: Stage
    adaptive: Stage


def demo_genome(output: Path, *, small: bool = False) -> Beside:
    """Run the demo in the folder `output`; returns what was measured.

    A folder of an earlier demo is used again: gone on with if that demo was interrupted, else replaced. OutputError
    (and nothing touched) if the folder holds anything else.
    """
    plan = _plan(DemoFolder(output), SMALL if small else FULL)
    folder, found = claim(output, name_of(plan.uniform, plan.adaptive))
    screen = Screen()
    screen.found(output, found)
    with showing(folder) as processes:
        return _show(screen, plan, folder, processes)


def _plan(folder: DemoFolder, sizes: Sizes) -> Plan:
    amount = (f"train.budget={sizes.steps} steps", f"train.batch_tokens={sizes.batch_tokens}")
    options = (*amount, *every(sizes.steps, 8))
    return Plan(
        sizes=sizes,
        uniform=stage_of(folder, "uniform", "dna-mlm-uniform", options, sizes.steps),
        adaptive=stage_of(folder, "adaptive", "dna-mlm-adaptive", options, sizes.steps),
    )


def _show(screen: Screen, plan: Plan, folder: DemoFolder, processes: Children) -> Beside:
    began, work = time.monotonic(), cpu_seconds()
    screen.part(1, "Two networks read yeast chromosome I, and fill in masked bases")
    screen.say(
        f"The same weights at the beginning, the same windows in the same order, {plan.sizes.steps:,} steps, as many "
        "bases masked. One run masks all bases alike; the other masks most what its network predicts worst."
    )
    _train(screen, plan, processes)
    subject = untrained(plan.uniform)
    screen.part(2, "Every base masked once, by the final weights (instar probe)")
    features = features_of(annotation_of_yeast(), sizes_of(_genome(subject))).features
    beside = _measured(plan, folder, subject, features)
    screen.table(_rows(plan, beside))
    screen.part(3, "On what the budget went, by annotation")
    for line in _class_lines(beside):
        screen.line(line)
    screen.part(4, "Which was better?")
    screen.say(beside.verdict(), style="bold")
    screen.say(
        "That is one seed and one pair: a different seed may turn it round. benchmarks/masking.py compares many seeds, "
        "rules and kinds of data, and says where adaptive masking does not help."
    )
    screen.part(5, "Pictures")
    report(plan.adaptive.folder, annotation_of_yeast())
    if plan.sizes.reports_both:
        build_report(plan.uniform.folder)
    page = _write_page(plan, folder, beside, features)
    screen.table(
        [
            ("genome browser, needs no network", str(page)),
            ("report of the adaptive run", str(plan.adaptive.folder / "report.html")),
            *([("report of the uniform run", str(plan.uniform.folder / "report.html"))] * plan.sizes.reports_both),
            ("it took", f"{time.monotonic() - began:.0f} s; computing {cpu_seconds() - work:.0f} s{load()}"),
        ]
    )
    screen.say("Another region:", style="bold")
    screen.line(f"instar tracks view {plan.adaptive.folder} --region chrI:100000-110000")
    return beside


def _genome(subject: Subject) -> Genome:
    source = subject.saved.config.data.train
    if not isinstance(source, Genome):
        raise TypeError("the demo's recipes read a genome")
    return source


def _train(screen: Screen, plan: Plan, processes: Children) -> None:
    """Both at once, on a core each."""
    running = {stage: processes.start(stage) for stage in (plan.uniform, plan.adaptive)}
    with screen.bar(plan.sizes.steps) as bar:
        while _any_is_running(running):
            _announce(bar, plan)
            time.sleep(_PAUSE)
        _announce(bar, plan)


def _any_is_running(held: dict[Stage, Child]) -> bool:
    running = [child.is_running() for child in held.values()]  # all are looked at: one may have failed
    return any(running)


def _announce(bar: Bar, plan: Plan) -> None:
    stages = (plan.uniform, plan.adaptive)
    lines = [stage.lines("train") for stage in stages]
    if not all(lines):
        return
    step = min(int(line[-1]["step"]) for line in lines)
    figures = f"step {step:,}"
    uniform, adaptive = ({line["step"]: line["loss"] for line in stage.lines("eval")} for stage in stages)
    if known := uniform.keys() & adaptive.keys():  # one may be ahead: figures of one step stand side by side
        last = max(known)
        figures += f"  held-out loss at {last:,}: uniform {uniform[last]:.4f}, adaptive {adaptive[last]:.4f}"
    bar.show(step, figures)


def _measured(plan: Plan, folder: DemoFolder, subject: Subject, features: list[Feature]) -> Beside:
    uniform_N, might = masked_uniformly(subject, plan.sizes.steps)
    adaptive_N = masked_by_journal(plan.adaptive, len(uniform_N))
    uniform_W, count_W = window_losses(subject.trained(plan.uniform))
    adaptive_W, _ = window_losses(subject.trained(plan.adaptive))  # of the same positions

    def arm(stage: Stage, masked_N: Ints, nll_W: Floats) -> Arm:
        probed = _probed(plan, folder, stage)
        return Arm(
            loss=float(nll_W.sum() / count_W.sum()),
            rate=float(masked_N.sum() / might),  # a token is a base
            masked=on_chromosomes(probed, masked_N),
            p_true=probed.track("p_true"),
        )

    return compare(
        arm(plan.uniform, uniform_N, uniform_W),
        arm(plan.adaptive, adaptive_N, adaptive_W),
        error=error_of(uniform_W, adaptive_W, count_W),
        features=features,
    )


def _probed(plan: Plan, folder: DemoFolder, stage: Stage) -> Stored:
    output = folder / f"probed-{stage.name}"
    if not (output / "probe.json").is_file():
        shutil.rmtree(output, ignore_errors=True)  # of a demo that was interrupted here
        probe(RunFolder(stage.folder).checkpoints()[-1][1], output, Asked(tracks="none", rate=plan.sizes.probe_rate))
    return open_stored(output)


def _rows(plan: Plan, beside: Beside) -> list[tuple[str, str]]:
    uniform, adaptive = beside.uniform, beside.adaptive
    counted = plan.uniform.lines("eval")[-1]["baseline_loss"]
    mean = [np.nanmean(np.concatenate(list(arm.p_true.values()))) for arm in (uniform, adaptive)]
    return [
        ("", "uniform   adaptive"),
        ("held-out loss, nats a base (fewer is better)", f"{uniform.loss:<9.4f} {adaptive.loss:.4f}"),
        ("the same, counting three bases on either side", f"{counted:.4f}"),
        ("share of tokens masked in training", f"{uniform.rate:<9.4f} {adaptive.rate:.4f}"),
        ("mean probability of the right base", f"{mean[0]:<9.4f} {mean[1]:.4f}"),
    ]


def _class_lines(beside: Beside) -> list[str]:
    lines = [
        f"{'':<28}{'':>10}{'share of the budget':^24}{'probability of the right base':^31}",
        f"{'class':<28}{'bases':>10}{'uniform':>12}{'adaptive':>12}{'uniform':>15}{'adaptive':>12}",
    ]
    for row in beside.classes:
        shares = f"{row.uniform_share:>12.2%}{row.adaptive_share:>12.2%}"
        lines.append(
            f"{row.kind[:27]:<28}{row.num_bases:>10,}{shares}{row.uniform_p_true:>15.4f}{row.adaptive_p_true:>12.4f}"
        )
    return lines


def _write_page(plan: Plan, folder: DemoFolder, beside: Beside, features: list[Feature]) -> Path:
    stored = open_stored(plan.adaptive.folder)
    source = stored.source
    if not isinstance(source, Genome):
        raise TypeError("the demo's recipes read a genome")
    (name, size), *_ = sizes_of(source).items()
    interval = Interval(name, 0, min(size, plan.sizes.bases))
    shown: list[tuple[str, Track, float | None]] = [
        ("masking probability: adaptive (stored value)", stored.track("one_minus_p"), 1.0),
        ("p_true: adaptive", beside.adaptive.p_true, 1.0),
        ("p_true: uniform", beside.uniform.p_true, 1.0),
        ("times masked: adaptive", beside.adaptive.masked, None),
        ("times masked: uniform", beside.uniform.masked, None),
    ]
    page = browser_page(
        title="Adaptive beside uniform masking",
        interval=interval,
        size=size,
        sequence=source.bases(interval),
        tracks=[BrowserTrack(title, tuple(runs(track[name][: interval.end])), most) for title, track, most in shown],
        features=[one for one in features if one.interval.chromosome == name and one.interval.start < interval.end],
    )
    path = folder / PAGE
    with disk_errors(path):
        replace_bytes(path, page)
    return path
