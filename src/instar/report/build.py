"""From a run folder to its report."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from instar.core.rundir import RunFolder
from instar.report.figures import plan_figures
from instar.report.masking import StoreFacts, masking_figures
from instar.report.page import EmbeddedFigure, render_page
from instar.report.reading import read_run
from instar.report.theme import DARK, LIGHT, draw_figure, render
from instar.report.writing import to_csv, write_file


@dataclass(frozen=True)
class ReportPaths:
    """What `build_report` wrote."""

    page: Path
    figures: tuple[Path, ...]
    """The PNG, SVG and CSV file of each figure."""


def build_report(run: Path, masking: StoreFacts | None = None, damaged: Collection[str] = ()) -> ReportPaths:
    """Write `figures/` and `report.html` into a run folder, each file whole or absent; equal runs give equal bytes.

    `masking` is what the run's probability store says, where it has one; `damaged` names checkpoints
    that are known to be. The run may be in progress. Raises
    InputMissingError where nothing was measured yet, DiskError or OutputError where the folder cannot be written.
    """
    record = read_run(run)
    checkpoints = tuple(replace(one, is_whole=one.is_whole and one.name not in damaged) for one in record.checkpoints)
    record = replace(record, checkpoints=checkpoints)
    folder = RunFolder(run)
    plans, num_left_out = plan_figures(record)
    plans += masking_figures(run, masking)
    written, embedded = [], []
    for plan in plans:
        figure = draw_figure(plan.draw, LIGHT, plan.size)
        files = {"png": render(figure, "png"), "svg": render(figure, "svg"), "csv": to_csv(plan.header, plan.rows)}
        for ending, content in files.items():
            path = folder.figures / f"{plan.name}.{ending}"
            write_file(path, content)
            written.append(path)
        dark = render(draw_figure(plan.draw, DARK, plan.size), "svg")
        embedded.append(EmbeddedFigure.of(plan, light=files["svg"], dark=dark))
    write_file(folder.report, render_page(record, embedded, num_left_out))
    return ReportPaths(folder.report, tuple(written))
