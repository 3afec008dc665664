"""The learning rate of a run before it is trained, with the run that it goes on from."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from instar.core.errors import UsageError
from instar.report.reading import Series
from instar.report.theme import LIGHT, Theme, draw_figure, render
from instar.report.writing import to_csv, write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KINDS: dict[str, Literal["png", "svg"]] = {".png": "png", ".svg": "svg"}


def draw_rates(path: Path, before: Series, after: Series) -> None:
    """Write a figure (.png, .svg) or a table (.csv) of the rates of the run before, if any, and of the run to come.

    Steps of the run before are negative. UsageError for another ending.
    """
    if path.suffix == ".csv":
        parts = (("before", before), ("run", after))
        rows = [(name, *pair) for name, part in parts for pair in zip(part.steps, part.values, strict=True)]
        write_file(path, to_csv(("part", "step", "lr"), rows))
        return
    if path.suffix not in _KINDS:
        raise UsageError(f"{path}: wanted a name that ends in .png, .svg or .csv")
    write_file(path, render(draw_figure(partial(_draw, before=before, after=after), LIGHT), _KINDS[path.suffix]))


def _draw(axes: "Axes", theme: Theme, before: Series, after: Series) -> None:
    if before.steps:
        axes.plot(before.steps, before.values, color=theme.faint, linewidth=1.8, label="the run before")
        axes.axvline(0, color=theme.faint, linewidth=0.8, linestyle=":")
    axes.plot(after.steps, after.values, color=theme.series[0], linewidth=1.8, label="this run")
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9)
