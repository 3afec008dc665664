"""Which figures a run gives, with the data of each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from instar.report.curves import CurveStyle, draw_curves
from instar.report.heatmap import draw_confusion
from instar.report.reading import RunRecord, Series, is_number
from instar.report.theme import Draw

MAX_FIGURES = 24
"""Figures of a report; a run with more measurements gets the first of them, and the report says so."""

_PLACES = frozenset({"step", "samples", "tokens", "seconds", "count", "epoch", "stage"})
_FIRST = ("loss", "masked_accuracy", "accuracy", "f1", "matthews", "spearman", "perplexity", "bits_per_character")
_BASELINE = "baseline_"
"""Begins the name of what counting scores: a line in the figure of that score."""
_LAST = ("lr", "tokens_per_second", "grad_norm")
_SHARE = CurveStyle("share right (0 to 1)", is_share=True)
_STYLES = {
    "loss": ("Loss", CurveStyle("loss (mean per target)", may_log=True)),
    "lr": ("Learning rate", CurveStyle("learning rate", smooth=False)),
    "tokens_per_second": ("Speed", CurveStyle("tokens per second")),
    "grad_norm": ("Gradient norm", CurveStyle("gradient norm before clipping", may_log=True)),
    "masked_accuracy": ("Masked accuracy", _SHARE),
    "accuracy": ("Accuracy", _SHARE),
    "f1": ("F1", CurveStyle("F1 (0 to 1)", is_share=True)),
    "f1_macro": ("F1, mean of classes", CurveStyle("F1 (0 to 1)", is_share=True)),
    "f1_micro": ("F1 of all decisions", CurveStyle("F1 (0 to 1)", is_share=True)),
    "matthews": ("Matthews correlation", CurveStyle("correlation (-1 to 1)")),
    "spearman": ("Spearman correlation", CurveStyle("correlation of ranks (-1 to 1)")),
    "pearson": ("Pearson correlation", CurveStyle("correlation (-1 to 1)")),
    "perplexity": ("Perplexity", CurveStyle("perplexity (per target)", may_log=True)),
    "bits_per_character": ("Bits per character", CurveStyle("bits per character")),
}


@dataclass(frozen=True)
class FigurePlan:
    """A figure to be drawn: its file name, its words, its data and its drawing."""

    name: str
    title: str
    alt: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    draw: Draw
    size: tuple[float, float] = (7.2, 3.6)


def title_of(key: str) -> str:
    """A measurement's name for people."""
    return _STYLES[key][0] if key in _STYLES else key.replace("_", " ").capitalize()


@dataclass(frozen=True)
class ScoreRow:
    """The newest value of a measurement in a split."""

    title: str
    split: str
    step: int
    value: float


def final_scores(run: RunRecord) -> list[ScoreRow]:
    """The newest value of every measurement that was made outside training."""
    rows = []
    for split in run.splits():
        for key in run.measured() if split != "train" else ():
            series = run.series(key, split).finite()
            if series.steps and key not in _PLACES:
                rows.append(ScoreRow(title_of(key), split, series.steps[-1], series.values[-1]))
    return rows


def _is_curve(run: RunRecord, key: str) -> bool:
    """One point is a number in the table of scores, not a figure; the loss is always drawn."""
    return key == "loss" or any(len(run.series(key, split).finite().steps) > 1 for split in run.splits())


def plan_figures(run: RunRecord) -> tuple[list[FigurePlan], int]:
    """The figures of a run in reading order, and how many more it would have."""
    scores = [key for key in run.measured() if not key.startswith(_BASELINE)]
    keys = [key for key in scores if key not in _PLACES and _is_curve(run, key)]
    first = [key for key in _FIRST if key in keys]
    last = [key for key in _LAST if key in keys]
    others = sorted(set(keys) - set(first) - set(last))
    used: set[str] = set()
    plans = [_curve_plan(run, key, used) for key in (*first, *last, *others)]
    confusion = confusion_plan(run)
    if confusion is not None:
        plans.insert(MAX_FIGURES - 1, confusion)
    return plans[:MAX_FIGURES], max(0, len(plans) - MAX_FIGURES)


def confusion_plan(run: RunRecord) -> FigurePlan | None:
    """The newest confusion matrix that is one, or None."""
    for line in reversed(run.lines):
        counts_CC, labels = line.get("confusion"), line.get("labels")
        if not _is_square(counts_CC):
            continue
        has_names = isinstance(labels, list) and len(labels) == len(counts_CC)
        names = [str(label) for label in labels] if has_names else [str(index) for index in range(len(counts_CC))]
        return FigurePlan(
            name="confusion",
            title=f"Confusion matrix, {line['split']}, step {line['step']:,}",
            alt="Heat map: rows are labels, columns predictions, shade is the share of the row",
            header=("label \\ predicted", *names),
            rows=tuple((name, *counts_C) for name, counts_C in zip(names, counts_CC, strict=True)),
            draw=partial(_draw_confusion, counts_CC=counts_CC, labels=names),
            size=(7.2, 4.8),
        )
    return None


def _curve_plan(run: RunRecord, key: str, used: set[str]) -> FigurePlan:
    lines = {split: run.series(key, split) for split in run.splits()}
    lines["baseline"] = run.series(_BASELINE + key, "eval")
    lines = {split: series for split, series in lines.items() if series.steps}
    title = title_of(key)
    style = _STYLES[key][1] if key in _STYLES else CurveStyle(key.replace("_", " "))
    return FigurePlan(
        name=_file_name(key, used),
        title=title,
        alt=f"{title} over optimizer steps; {', '.join(_ends(split, series) for split, series in lines.items())}",
        header=("split", "step", key),
        rows=tuple(
            (split, step, value)
            for split, series in lines.items()
            for step, value in zip(series.steps, series.values, strict=True)
        ),
        draw=partial(_draw_curves, lines=lines, style=style),
    )


def _ends(split: str, series: Series) -> str:
    finite = series.finite().values
    return f"{split} from {finite[0]:.4g} to {finite[-1]:.4g}" if finite else f"{split} never finite"


def _draw_curves(axes: Any, theme: Any, lines: Mapping[str, Series], style: CurveStyle) -> None:
    draw_curves(axes, theme, lines, style)


def _draw_confusion(axes: Any, theme: Any, counts_CC: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    draw_confusion(axes, theme, counts_CC, labels)


def _is_square(counts_CC: Any) -> bool:
    if not isinstance(counts_CC, list) or not 1 <= len(counts_CC) <= 1000:
        return False
    rows_fit = all(isinstance(counts_C, list) and len(counts_C) == len(counts_CC) for counts_C in counts_CC)
    return rows_fit and all(is_number(count) and 0 <= count < 2**53 for counts_C in counts_CC for count in counts_C)


def _file_name(key: str, used: set[str]) -> str:
    """A name of letters, digits and _ only: a measurement's name never becomes a path."""
    stem = re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")[:40] or "measurement"
    names = (stem if number == 1 else f"{stem}_{number}" for number in range(1, 10**6))
    name = next(name for name in names if name not in used and name != "confusion")
    used.add(name)
    return name
