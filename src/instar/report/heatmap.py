"""The confusion matrix as a picture. Shape letter: C classes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from instar.report.theme import Theme, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NUMBERED = 12
"""Classes up to which every cell shows its numbers."""
MAX_NAMED = 40
"""Classes up to which every class is named."""


def draw_confusion(axes: "Axes", theme: Theme, counts_CC: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    """Cells shaded by their share of the row, with share and count where there is room."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    counts = np.asarray(counts_CC, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colours = colormaps[theme.heat]
    image = axes.imshow(shares, cmap=colours, norm=Normalize(0, 1), aspect="equal")
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("label")
    axes.spines[:].set_visible(False)
    if len(labels) <= MAX_NAMED:
        names = [plain(label, 16) for label in labels]
        crowded = sum(map(len, names)) > 36
        axes.set_xticks(range(len(names)), names, rotation=90 if crowded else 0)
        axes.set_yticks(range(len(names)), names)
    if len(labels) <= MAX_NUMBERED:
        for row, column in np.ndindex(counts.shape):
            red, green, blue, _ = colours(shares[row, column])
            ink = "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "#1f2328"
            text = f"{shares[row, column]:.0%}\n{counts[row, column]:,.0f}"
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=9 if len(labels) <= 6 else 7)
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the label's documents", color=theme.faint)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=theme.faint, length=0)
