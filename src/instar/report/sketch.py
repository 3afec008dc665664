"""A curve in a few lines of a terminal."""

from collections.abc import Sequence
from itertools import pairwise

WIDTH, HEIGHT = 64, 8
_LEVELS = " ▁▂▃▄▅▆▇█"


def sketch(values: Sequence[float], *, joint: int | None = None, width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Columns from zero up, the highest value at the top, with the highest and the zero written beside them.

    `joint` is the index of the value that a mark under the curve points to. No lines for no values.
    """
    if not values:
        return []
    width = min(width, len(values))
    edges = [len(values) * column // width for column in range(width + 1)]
    columns = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    top = max(values)
    scale = 0.0 if top <= 0 else height * (len(_LEVELS) - 1) / top
    labels = [f"{top:.3g}", *[""] * (height - 2), "0"]
    room = max(map(len, labels))
    lines = []
    for row in range(height):
        below = (height - 1 - row) * (len(_LEVELS) - 1)
        cells = [_LEVELS[max(0, min(len(_LEVELS) - 1, round(value * scale) - below))] for value in columns]
        lines.append(f"{labels[row]:>{room}} {''.join(cells)}".rstrip())
    if joint is not None and 0 < joint < len(values):
        lines.append(f"{'':>{room}} {'':>{joint * width // len(values)}}^ joint")
    return lines
