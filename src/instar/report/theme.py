"""How figures look, in light and dark, and how they become the same bytes every time."""

import io
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of a figure; the series colours keep apart for every kind of colour blindness (Okabe and Ito)."""

    paper: str
    ink: str
    faint: str
    grid: str
    series: tuple[str, ...]
    heat: str
    """Name of the colour map for shares, whose low end meets the paper."""


LIGHT = Theme(
    paper="#ffffff",
    ink="#1f2328",
    faint="#59636e",
    grid="#e4e7eb",
    series=("#0072b2", "#d55e00", "#009e73", "#aa4499", "#7a6a00"),
    heat="Blues",
)
DARK = Theme(
    paper="#161b22",
    ink="#e6edf3",
    faint="#9198a1",
    grid="#2b323b",
    series=("#56b4e9", "#e69f00", "#2bc29a", "#dd8fc0", "#f0e442"),
    heat="cividis",
)

_SPLITS = ("train", "eval", "test")


def colour_of(theme: Theme, split: str, index: int) -> str:
    """A split's colour, the same in every figure; `index` chooses for splits without a fixed one."""
    number = _SPLITS.index(split) if split in _SPLITS else len(_SPLITS) + index
    return theme.series[number % len(theme.series)]


Draw = Callable[["Axes", Theme], None]


def draw_figure(draw: Draw, theme: Theme, size: tuple[float, float] = (7.2, 3.6)) -> "Figure":
    """One set of axes of `size` inches in the theme's colours, drawn by `draw`; no global state is touched."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"text.parse_math": False, "font.size": 10}), _no_glyph_warnings():
        figure = Figure(figsize=size, facecolor=theme.paper, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        style_axes(axes, theme)
        draw(axes, theme)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, for every file made of it: half the time
    return figure


def style_axes(axes: "Axes", theme: Theme) -> None:
    """A light grid, no box, quiet ticks."""
    axes.set_facecolor(theme.paper)
    axes.grid(visible=True, color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(theme.grid)
    axes.tick_params(which="both", colors=theme.faint, length=0)
    axes.xaxis.label.set_color(theme.faint)
    axes.yaxis.label.set_color(theme.faint)


def render(figure: "Figure", kind: Literal["png", "svg"]) -> bytes:
    """The figure as a file; the same figure gives the same bytes: no date, no random names."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with rc_context({"svg.hashsalt": "instar", "text.parse_math": False, "font.size": 10}), _no_glyph_warnings():
        figure.savefig(buffer, format=kind, dpi=144, metadata=metadata, facecolor=figure.get_facecolor())
    return buffer.getvalue()


@contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    """A letter that the font lacks is drawn as a box; the CSV has it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def plain(text: object, length: int = 24) -> str:
    """Text for a figure: on one line, at most `length` characters, nothing that an SVG file could not hold."""
    shown = "".join(
        "\ufffd" if unicodedata.category(letter) in ("Cc", "Cs", "Cn", "Co") else letter for letter in str(text)
    )
    return shown if len(shown) <= length else shown[: length - 1] + "…"
