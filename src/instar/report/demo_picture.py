"""One picture of a masked-language-model run: how it learned, and what it now reads in a masked text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.core.errors import InputMissingError
from instar.report.reading import RunRecord, read_run
from instar.report.samples import FilledText, ShownToken, shown_samples
from instar.report.theme import LIGHT, Theme, plain, render, style_axes
from instar.report.writing import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_LETTERS = 700
"""Letters of the paragraph that are drawn."""


def build_demo_picture(
    run: Path,
    output: Path,
    *,
    metric: str = "masked_accuracy",
    floor: float | None = None,
    floor_name: str = "always the commonest character",
    kill_step: int | None = None,
    title: str = "A masked language model learns to read",
) -> Path:
    """Write a PNG: on the left `metric` over steps with its floor and the step of the kill, on the right a text.

    The text is the run's newest filled-in samples, one below the other. Raises InputMissingError where the run
    has neither measurements of `metric` nor samples.
    """
    record = read_run(run)
    texts = shown_samples(record).filled
    series = [record.series(metric, split).finite() for split in record.splits()]
    if not texts and not any(line.steps for line in series):
        raise InputMissingError(f"{run}: no {metric} and no filled-in sample to draw; log one of them first")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False, "font.size": 11}):
        figure = Figure(figsize=(13, 5.2), facecolor=LIGHT.paper, layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        figure.suptitle(plain(title, 90), color=LIGHT.ink, fontsize=16, fontweight="bold", x=0.01, ha="left")
        style_axes(left, LIGHT)
        _draw_learning(left, record, metric)
        _mark(left, floor, floor_name, kill_step)
        _draw_text(right, LIGHT, _joined(texts))
    write_file(output, render(figure, "png"))
    return output


def _draw_learning(axes: "Axes", record: RunRecord, metric: str) -> None:
    from matplotlib.ticker import FuncFormatter

    for index, split in enumerate(record.splits()):
        series = record.series(metric, split).finite()
        if not series.steps:
            continue
        colour = LIGHT.series[0] if split != "train" else LIGHT.faint
        width = 2.4 if split != "train" else 0.8
        axes.plot(series.steps, series.values, color=colour, linewidth=width, label=plain(split), zorder=3 - index)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("masked tokens guessed right")


def _mark(axes: "Axes", floor: float | None, floor_name: str, kill_step: int | None) -> None:
    if floor is not None:
        label = f"floor: {plain(floor_name, 50)} ({floor:.1%})"
        axes.axhline(floor, color=LIGHT.series[1], linestyle="--", linewidth=1.6, label=label)
    if kill_step is not None:
        label = f"killed and resumed at step {kill_step:,}"
        axes.axvline(kill_step, color=LIGHT.series[3], linestyle=":", linewidth=2, label=label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", labelcolor=LIGHT.ink, fontsize=10, framealpha=0.9, edgecolor="none")


def _joined(texts: Sequence[FilledText]) -> FilledText:
    """As many of the texts as there is room for, each on a line of its own; at least the first."""
    tokens: list[ShownToken] = []
    for text in texts:
        if tokens and len(tokens) + len(text.tokens) > MAX_LETTERS // 2:
            break
        tokens += [*([ShownToken("\n", "given")] if tokens else []), *text.tokens]
    return FilledText(tuple(tokens), is_cut=False)


def _draw_text(axes: "Axes", theme: Theme, text: FilledText) -> None:
    """Letters on a grid; a masked letter has a box whose shade is its probability, a wrong guess shows itself."""
    axes.set_axis_off()
    if not text.tokens:
        axes.text(0, 0.5, "no sample was logged", color=theme.faint)
        return
    letters = _letters(text.tokens)
    num_columns = max(30, min(48, int((len(letters) * 2.2) ** 0.5)))
    cells = _cells(letters, num_columns)
    num_rows = max(10, cells[-1][1] + 3 if cells else 0)
    axes.set_xlim(0, num_columns)
    axes.set_ylim(num_rows, 0)
    colours = {"right": theme.series[0], "wrong": theme.series[1]}
    size = min(540 / num_columns, 250 / num_rows)
    for (letter, token), row, column in cells:
        if token.outcome in colours:
            _draw_box(axes, row, column, colours[token.outcome], 0.15 + 0.5 * token.share)
        weight = "bold" if token.outcome in colours else "normal"
        center = (column + 0.5, row + 0.5)
        font: dict[str, Any] = {"family": "DejaVu Sans Mono", "fontsize": size, "fontweight": weight}
        axes.text(*center, letter, ha="center", va="center", color=theme.ink, **font)
    axes.set_title(f"{text.num_right} of {text.num_masked} masked tokens right", loc="left", color=theme.ink)
    keys = (("guessed right", "right", 0.0), ("guessed wrong (the guess is shown)", "wrong", num_columns * 0.33))
    for name, outcome, start in keys:
        _draw_box(axes, num_rows - 1, start, colours[outcome], 0.6)
        axes.text(start + 1.3, num_rows - 0.5, name, color=theme.faint, fontsize=10, va="center")


def _draw_box(axes: "Axes", row: float, column: float, colour: str, alpha: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column + 0.03, row + 0.08), 0.94, 0.84, color=colour, alpha=alpha, linewidth=0))


Letter = tuple[str, ShownToken]


def _letters(tokens: Sequence[ShownToken]) -> list[Letter]:
    """What stands in each cell, a wrong guess in the place of the truth, and the token that it belongs to."""
    letters: list[Letter] = []
    for token in tokens:
        if token.gap:
            letters.append((" ", ShownToken(" ", "given")))
        shown = token.guess if token.outcome == "wrong" and token.guess else token.text
        letters += [(letter if letter == "\n" else plain(letter), token) for letter in shown]
    return letters[:MAX_LETTERS]


def _cells(letters: Sequence[Letter], num_columns: int) -> list[tuple[Letter, int, int]]:
    """(letter, row, column) of each, in lines that break between words where they can."""
    cells: list[tuple[Letter, int, int]] = []
    row = column = 0
    for index, (letter, token) in enumerate(letters):
        if letter == "\n" and token.outcome == "given":
            row, column = row + 1, 0
            continue
        if column + _word_length(letters, index, num_columns) > num_columns:
            row, column = row + 1, 0
        if letter == " " and column == 0 and token.outcome == "given":
            continue
        visible = {" ": "\u2423", "\n": "\u21b5"}.get(letter, letter) if token.outcome != "given" else letter
        cells.append(((visible, token), row, column))
        column += 1
    return cells


def _word_length(letters: Sequence[Letter], index: int, num_columns: int) -> int:
    """Cells that must stay on one line from `index` on: a whole word at its start, else one."""
    if index and not letters[index - 1][0].isspace():
        return 1
    ends = (end for end in range(index, len(letters)) if letters[end][0].isspace())
    length = next(ends, len(letters)) - index
    return length if 0 < length <= num_columns else 1
