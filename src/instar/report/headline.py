"""The first lines of a report: what came out, and what it took."""

import math
from dataclasses import dataclass
from statistics import median

from instar.report.figures import title_of
from instar.report.reading import RunRecord, to_float

_HIGHER = ("masked_accuracy", "accuracy", "f1", "matthews", "spearman", "pearson")
_LOWER = ("loss", "perplexity", "bits_per_character")
_PERCENT = frozenset({"masked_accuracy", "accuracy"})


@dataclass(frozen=True)
class Tile:
    """One number of the headline."""

    name: str
    value: str
    note: str


def headline(run: RunRecord) -> list[Tile]:
    """The scores with their best value and its step, then what training took."""
    tiles = [_score(run, key) for key in (*_HIGHER, *_LOWER)]
    return [tile for tile in tiles if tile is not None][:5] + _costs(run)


def _score(run: RunRecord, key: str) -> Tile | None:
    """Of the splits that have the score, the most telling one: test before eval before training."""
    others = sorted(set(run.splits()) - {"test", "eval", "train"})
    found = [(split, run.series(key, split).finite()) for split in ("test", "eval", *others, "train")]
    split, series = next(((split, series) for split, series in found if series.values), ("", None))
    if series is None:
        return None
    choose = max if key in _HIGHER else min
    best = choose(range(len(series.values)), key=series.values.__getitem__)
    where = f"{split}, step {series.steps[-1]:,}"
    is_best = series.values[best] == series.values[-1]
    note = where if is_best else f"{where}; best {_number(series.values[best], key)} at {series.steps[best]:,}"
    counted = run.series(f"baseline_{key}", split).finite().values
    if counted:
        note += f"; baseline {_number(counted[-1], key)}"
    return Tile(title_of(key), _number(series.values[-1], key), note)


def _costs(run: RunRecord) -> list[Tile]:
    tiles = []
    train = "train" if "train" in run.splits() else run.splits()[0]
    steps = run.lines[-1]["step"]
    samples, tokens, seconds = (to_float(run.last(key, train)) for key in ("samples", "tokens", "seconds"))
    note = f"{samples:,.0f} samples" if math.isfinite(samples) else ""
    tiles.append(Tile("Steps", f"{steps:,}", note))
    if math.isfinite(tokens):
        tiles.append(Tile("Tokens", compact(tokens), "without padding"))
    if math.isfinite(seconds):
        tiles.append(Tile("Time", duration(seconds), "in training"))
    speeds = run.series("tokens_per_second", train).finite().values
    if speeds:
        tiles.append(Tile("Speed", f"{compact(median(speeds))}/s", "tokens, median"))
    return tiles


def compact(number: float) -> str:
    """A count for people: 950, 12.3 k, 4.56 M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def duration(seconds: float) -> str:
    """A time for people: 4.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600):,} h {int(seconds % 3600 // 60)} min"


def _number(value: float, key: str) -> str:
    return f"{value:.1%}" if key in _PERCENT else f"{value:,.4g}"
