"""Figures of a run whose masking learns: shares kept, who is masked, what is known of the corpus and how old it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.report.figures import FigurePlan
from instar.report.reading import is_number, read_objects, to_float
from instar.report.theme import Theme, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = "masking.jsonl"
_PERIODS = 3


@dataclass(frozen=True)
class Bin:
    """A stretch of the corpus."""

    name: str
    """Its chromosome; empty for a text."""
    start: int
    end: int
    mean: float
    """Mean of the values that are known; NaN where none is."""
    known: float
    """Share of the characters whose value is known."""


@dataclass(frozen=True, kw_only=True)
class StoreFacts:
    """What a store says at the end."""

    statistic: str
    coverage: float
    """Share of all characters with a value."""
    bins: tuple[Bin, ...]
    values: tuple[int, ...]
    """Characters whose value lies in each tenth of 0 to 1."""
    ages: tuple[tuple[int, int], ...] = ()
    """(steps since the last look, characters), youngest first; empty where ages are not kept."""
    classes: tuple[tuple[int, str, float], ...] = ()
    """(step, class of features, mean value), where an annotation was given."""


def masking_figures(run: Path, facts: StoreFacts | None) -> list[FigurePlan]:
    """The figures that a run's masking gives; none for one that learns nothing."""
    lines = [_renamed(line) for line in read_objects(run / LINES) if is_number(line.get("step"))]
    plans = [_rate(lines)] if len(lines) > 1 else []
    deciles = [line for line in lines if _has_deciles(line)]
    if deciles:
        plans.append(_deciles(deciles))
    if facts is None:
        return plans
    plans += [_profile(facts, p_true=False), _values(facts)]
    if facts.statistic == "one_minus_p":
        plans.insert(-1, _profile(facts, p_true=True))
    if facts.ages:
        plans.append(_ages(facts))
    if facts.classes:
        plans.append(_classes(facts))
    return plans


def _renamed(line: dict[str, Any]) -> dict[str, Any]:
    """A line of figures with the present names."""
    return {"masked_by_decile" if name == "hidden_by_decile" else name: value for name, value in line.items()}


def _has_deciles(line: dict[str, Any]) -> bool:
    both = (line.get("tokens_by_decile"), line.get("masked_by_decile"))
    return all(isinstance(one, list) and len(one) == 10 and all(map(is_number, one)) for one in both)


def _rate(lines: Sequence[dict[str, Any]]) -> FigurePlan:
    rows = tuple((line["step"], to_float(line.get("realised_rate"))) for line in lines)
    return FigurePlan(
        name="masking_rate",
        title="Share of tokens masked",
        alt=f"Share of tokens that were masked over optimizer steps, from {rows[0][1]:.4g} to {rows[-1][1]:.4g}",
        header=("step", "realised_rate"),
        rows=rows,
        draw=partial(_draw_line, rows=rows, label="share masked"),
    )


def _deciles(lines: Sequence[dict[str, Any]]) -> FigurePlan:
    periods = [part for part in _cut(lines, min(_PERIODS, len(lines))) if part]
    rows = []
    for part in periods:
        tokens, masked = ([sum(line[name][tenth] for line in part) for tenth in range(10)] for name in _NAMES)
        total = max(1, sum(masked))
        for tenth in range(10):
            share = masked[tenth] / tokens[tenth] if tokens[tenth] else float("nan")
            rows.append(
                (
                    part[0]["step"],
                    part[-1]["step"],
                    tenth / 10,
                    tokens[tenth],
                    masked[tenth],
                    share,
                    masked[tenth] / total,
                )
            )
    return FigurePlan(
        name="masking_deciles",
        title="Who is masked, by stored value",
        alt="Share of the tokens that were masked in each tenth of the stored value, for parts of the run",
        header=("first_step", "last_step", "value_from", "tokens", "masked", "share_masked", "share_of_budget"),
        rows=tuple(rows),
        draw=partial(_draw_deciles, rows=rows),
    )


_NAMES = ("tokens_by_decile", "masked_by_decile")


def _cut(lines: Sequence[dict[str, Any]], parts: int) -> list[Sequence[dict[str, Any]]]:
    return [lines[len(lines) * part // parts : len(lines) * (part + 1) // parts] for part in range(parts)]


def _profile(facts: StoreFacts, *, p_true: bool) -> FigurePlan:
    what = "probability of the right token" if p_true else f"masking value ({facts.statistic})"
    rows = tuple((one.name, one.start, one.end, 1 - one.mean if p_true else one.mean, one.known) for one in facts.bins)
    return FigurePlan(
        name="masking_p_true" if p_true else "masking_track",
        title=f"Along the corpus: {what}",
        alt=f"{what} along the corpus; {facts.coverage:.0%} of the characters have a value",
        header=("name", "start", "end", "mean", "known"),
        rows=rows,
        draw=partial(_draw_profile, rows=rows, label=what),
    )


def _values(facts: StoreFacts) -> FigurePlan:
    rows = tuple((tenth / 10, count) for tenth, count in enumerate(facts.values))
    return FigurePlan(
        name="masking_values",
        title=f"Stored values; {facts.coverage:.1%} of the characters have one",
        alt="How many characters have a value in each tenth of 0 to 1",
        header=("value_from", "characters"),
        rows=rows,
        draw=partial(_draw_bars, labels=[f"{low:.1f}" for low, _ in rows], counts=[count for _, count in rows],
                     x_label="stored value, from", y_label="characters"),
    )  # fmt: skip


def _ages(facts: StoreFacts) -> FigurePlan:
    return FigurePlan(
        name="masking_ages",
        title="How long ago each character was last measured",
        alt="How many characters were last measured how many steps ago",
        header=("steps_since", "characters"),
        rows=facts.ages,
        draw=partial(_draw_bars, labels=[f"{age:,}" for age, _ in facts.ages], counts=[n for _, n in facts.ages],
                     x_label="steps since the last look, from", y_label="characters"),
    )  # fmt: skip


def _classes(facts: StoreFacts) -> FigurePlan:
    return FigurePlan(
        name="masking_classes",
        title="Masking value by annotation",
        alt="Mean masking value of the bases of each class of features over optimizer steps",
        header=("step", "class", "mean"),
        rows=facts.classes,
        draw=partial(_draw_classes, rows=facts.classes),
        size=(7.2, 4.4),
    )


# ---- drawing ----


def _draw_line(axes: "Axes", theme: Theme, rows: Sequence[tuple[Any, ...]], label: str) -> None:
    axes.plot([row[0] for row in rows], [row[1] for row in rows], color=theme.series[0], linewidth=1.8)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(label)


def _draw_deciles(axes: "Axes", theme: Theme, rows: Sequence[tuple[Any, ...]]) -> None:
    for number, step in enumerate(sorted({row[0] for row in rows})):
        mine = [row for row in rows if row[0] == step]
        label = f"steps {step:,} to {mine[0][1]:,}"
        colour = theme.series[number % len(theme.series)]
        axes.plot([row[2] + 0.05 for row in mine], [row[5] for row in mine], "o-", color=colour, label=label)
    axes.set_xlabel("stored value")
    axes.set_ylabel("share masked")
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=9)


def _draw_profile(axes: "Axes", theme: Theme, rows: Sequence[tuple[Any, ...]], label: str) -> None:
    at = 0.0
    edges: list[float] = []
    heights: list[float] = []
    for row in rows:
        edges.append(at)
        heights.append(row[3])
        at += row[2] - row[1]
    middles = [(low + high) / 2 for low, high in zip(edges, [*edges[1:], at], strict=True)]
    axes.plot(middles, heights, "-", marker=".", markersize=3, color=theme.series[0], linewidth=1.2)
    axes.set_xlim(0, max(at, 1.0))
    names = [row[0] for row in rows]
    for name in dict.fromkeys(names):
        if name:
            axes.axvline(edges[names.index(name)], color=theme.grid, linewidth=0.8)
            axes.annotate(plain(name, 20), (edges[names.index(name)], 1.0), xycoords=("data", "axes fraction"),
                          fontsize=8, color=theme.faint, va="top")  # fmt: skip
    axes.set_xlabel("characters of the corpus")
    axes.set_ylabel(plain(label, 60))


def _draw_bars(
    axes: "Axes", theme: Theme, labels: Sequence[str], counts: Sequence[int], *, x_label: str, y_label: str
) -> None:
    axes.bar(range(len(counts)), counts, color=theme.series[0])
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _draw_classes(axes: "Axes", theme: Theme, rows: Sequence[tuple[int, str, float]]) -> None:
    for number, kind in enumerate(dict.fromkeys(kind for _, kind, _ in rows)):
        mine = [(step, mean) for step, name, mean in rows if name == kind]
        style = "-" if number < len(theme.series) else "--"
        axes.plot([step for step, _ in mine], [mean for _, mean in mine], style, marker="o", markersize=3,
                  color=theme.series[number % len(theme.series)], label=plain(kind, 24))  # fmt: skip
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("mean masking value")
    axes.legend(frameon=False, labelcolor=theme.ink, fontsize=8, ncols=2)
