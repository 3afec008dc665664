"""Curves over the steps of a run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instar.report.reading import Series
from instar.report.theme import Theme, colour_of, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_BINS = 500
"""Bins that a drawn line is thinned to, each keeping its lowest and highest point; the CSV keeps all points."""
MIN_SMOOTHED = 40
"""Points from which on a smoothed line is drawn over the raw one."""


@dataclass(frozen=True)
class CurveStyle:
    """What a figure of curves shows beside its lines."""

    y_label: str
    is_share: bool = False
    """0 to 1: the axis shows exactly that when the values fill a good part of it."""
    may_log: bool = False
    """A logarithmic axis where the values span more than a factor of ten."""
    smooth: bool = True


def smoothed(values: tuple[float, ...]) -> tuple[float, ...]:
    """Exponential mean over about a fiftieth of the points, without a bias at the start."""
    decay = 1 - 1 / max(2.0, len(values) / 50)
    total = weight = 0.0
    means = []
    for value in values:
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        means.append(total / weight)
    return tuple(means)


def thinned(series: Series) -> Series:
    """At most `2 * MAX_BINS` points with the same outline."""
    if len(series.steps) <= 2 * MAX_BINS:
        return series
    kept: list[int] = []
    for number in range(MAX_BINS):
        first, last = (len(series.steps) * edge // MAX_BINS for edge in (number, number + 1))
        indices = range(first, last)
        kept += sorted({min(indices, key=series.values.__getitem__), max(indices, key=series.values.__getitem__)})
    return Series(tuple(series.steps[index] for index in kept), tuple(series.values[index] for index in kept))


def draw_curves(axes: "Axes", theme: Theme, lines: Mapping[str, Series], style: CurveStyle) -> None:
    """One line a split; train thin and smoothed where it is noisy, the others with a mark at each point."""
    finite = {split: series.finite() for split, series in lines.items()}
    finite = {split: series for split, series in finite.items() if series.steps}
    for index, (split, series) in enumerate(finite.items()):
        colour = colour_of(theme, split, index)
        if split == "train" and style.smooth and len(series.steps) >= MIN_SMOOTHED:
            raw = thinned(series)
            axes.plot(raw.steps, raw.values, color=colour, alpha=0.3, linewidth=0.8)
            smooth = thinned(Series(series.steps, smoothed(series.values)))
            axes.plot(smooth.steps, smooth.values, color=colour, linewidth=1.8, label=f"{plain(split)} (smoothed)")
            continue
        marker = "o" if len(series.steps) <= 60 and (split != "train" or len(series.steps) == 1) else ""
        shown = thinned(series)
        axes.plot(
            shown.steps, shown.values, color=colour, linewidth=1.8, marker=marker, markersize=4, label=plain(split)
        )
    _set_scales(axes, finite, style)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(plain(style.y_label, 60))
    if finite:
        axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9)


def _set_scales(axes: "Axes", lines: Mapping[str, Series], style: CurveStyle) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    values = [value for series in lines.values() for value in series.values]
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    if not values:
        return
    low, high = min(values), max(values)
    if style.may_log and low > 0 and high / low > 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if math.log10(high / low) < 3 else (1.0,)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    elif style.is_share and low >= 0 and high <= 1 and high - low > 0.3:
        axes.set_ylim(0, 1)
