"""What the lines of `benchmarks/masking.py` add up to: paired differences, their intervals, and tables."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONTROL = "uniform 15 %"
QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""97.5 % quantiles of Student's t with 1, 2, ... 20 degrees of freedom."""
WITHIN = 0.5
"""Nats above the control's loss before the shift that count as recovered."""
GROUPS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "synthetic": {"repeat": (0,), "motif": (1, 2), "random": (3,)},
    "yeast": {"coding": (0,), "repeat": (1,), "other": (2,)},
    "text": {"commonest 3 tenths": (0, 1, 2), "middle": (3, 4, 5, 6), "rarest 3 tenths": (7, 8, 9)},
}
"""Columns of a table, and the classes that each of them joins."""
LEARNABLE = {"synthetic": "motif", "yeast": "coding", "text": "rarest 3 tenths"}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of paired differences and half the width of its 95 % interval (Student t)."""

    mean: float
    half: float
    pairs: int

    @classmethod
    def of(cls, differences: Sequence[float]) -> "Interval":
        """Of one difference for each seed; with fewer than two nothing is known of the width."""
        count = len(differences)
        mean = float(np.mean(differences))
        if count < 2:
            return cls(mean=mean, half=math.nan, pairs=count)
        quantile = QUANTILES[min(count - 1, len(QUANTILES)) - 1]
        return cls(mean=mean, half=quantile * float(np.std(differences, ddof=1)) / math.sqrt(count), pairs=count)

    @property
    def is_clear(self) -> bool:
        """True where the interval leaves 0 out."""
        return abs(self.mean) > self.half

    def told(self, digits: int = 3) -> str:
        """Like -0.012 ± 0.005, in bold where 0 is left out."""
        text = f"{self.mean:+.{digits}f} ± {self.half:.{digits}f}"
        return f"**{text}**" if self.is_clear else text


def at_share(curve: Sequence[Mapping[str, Any]], share: float) -> float:
    """Held-out loss after a share of the steps, on the line between the two nearest looks."""
    steps = [look["step"] for look in curve]
    return float(np.interp(share * steps[-1], steps, [look["loss"] for look in curve]))


def group_loss(look: Mapping[str, Any], classes: Sequence[int]) -> float:
    """Mean loss of the tokens of some classes."""
    counts = np.asarray(look["counts"])[list(classes)]
    return float((np.asarray(look["by_class"])[list(classes)] * counts).sum() / max(1, counts.sum()))


def budget_share(run: Mapping[str, Any], classes: Sequence[int]) -> float:
    """Share of all masked tokens that were of some classes, in the second half of the run."""
    hidden = np.asarray(run["hidden"])
    late = hidden[len(hidden) // 2 :].sum(axis=0)
    return float(late[list(classes)].sum() / late.sum())


def recovered(run: Mapping[str, Any], classes: Sequence[int], level: float) -> tuple[float, bool]:
    """(tokens after the shift until the loss of the classes is at most `level`, whether it came to that)."""
    looks = run["shift"]["curve"]
    losses = [group_loss(look, classes) for look in looks]
    for number, loss in enumerate(losses):
        if loss <= level:
            if number == 0:
                return 0.0, True
            before = losses[number - 1]
            part = (before - level) / (before - loss)
            first, last = looks[number - 1]["tokens"], looks[number]["tokens"]
            return float(first + part * (last - first)), True
    return float(looks[-1]["tokens"]), False


Runs = Mapping[tuple[str, int], Mapping[str, Any]]
"""(arm, seed) -> a line of the results."""


def complete_seeds(runs: Runs, arms: Sequence[str]) -> list[int]:
    """Seeds of which every arm is there: the others are left out, so that all rows are of the same pairs."""
    return sorted({seed for _, seed in runs if all((arm, seed) in runs for arm in arms)})


def rows_of(corpus: str, runs: Runs, arms: Sequence[str], costs: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each arm: its measures by seed (`each`), their means, and their paired differences from the control.

    `costs` are CPU seconds of a step of each arm.
    """
    seeds = complete_seeds(runs, arms)
    least = min(costs[arm] for arm in arms)
    level = {seed: _learnable(corpus, runs[CONTROL, seed]["curve"][-1]) + WITHIN for seed in seeds}
    each = {
        arm: [_measured(corpus, runs[arm, seed], least / costs[arm], level[seed]) for seed in seeds] for arm in arms
    }
    return [
        {
            "arm": arm,
            "seeds": seeds,
            "each": each[arm],
            "mean": {name: float(np.mean([one[name] for one in each[arm]])) for name in each[arm][0]}
            | {"cost": 1000 * costs[arm]},
            "paired": {name: paired(each[arm], each[CONTROL], name) for name in each[arm][0]},
        }
        for arm in arms
    ]


def paired(ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]], name: str) -> Interval:
    """The interval of a measure's difference, seed by seed."""
    return Interval.of([one[name] - other[name] for one, other in zip(ours, theirs, strict=True)])


def _learnable(corpus: str, look: Mapping[str, Any]) -> float:
    return group_loss(look, GROUPS[corpus][LEARNABLE[corpus]])


def _measured(corpus: str, run: Mapping[str, Any], share: float, level: float) -> dict[str, float]:
    last = run["curve"][-1]
    found = {
        "tokens": last["loss"],
        "seconds": at_share(run["curve"], share),
        "rate": float(np.sum(run["hidden"]) / np.sum(run["maskable"])),
    }
    for name, classes in GROUPS[corpus].items():
        found |= {f"loss {name}": group_loss(last, classes), f"share {name}": budget_share(run, classes)}
    if "shift" in run:
        classes = GROUPS[corpus][LEARNABLE[corpus]]
        found["recovery"], came = recovered(run, classes, level)
        found |= {"recovered": float(came), "shifted": _learnable(corpus, run["shift"]["curve"][-1])}
    return found


def table_of(corpus: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows in Markdown; the control shows its means, the others their differences from it."""
    names = list(GROUPS[corpus])
    wanted = {"tokens": "loss, equal tokens", "seconds": "loss, equal CPU seconds"}
    wanted |= {f"loss {name}": f"loss: {name}" for name in names}
    if "recovery" in rows[0]["mean"]:
        wanted |= {"shifted": f"loss after the shift: {LEARNABLE[corpus]}", "recovery": "tokens to recover"}
    plain = {f"share {name}": (f"hidden: {name}", ".1%") for name in names}
    plain |= {"rate": ("rate", ".3f"), "cost": ("CPU ms a step", ".1f")}
    head = ["masking", *wanted.values(), *(title for title, _ in plain.values())]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [_cell(row, name) for name in wanted]
        cells += [format(row["mean"][name], form) for name, (_, form) in plain.items()]
        lines.append(f"| {row['arm']} | {' | '.join(cells)} |")
    return lines


def _cell(row: Mapping[str, Any], name: str) -> str:
    is_count = name == "recovery"
    if row["arm"] == CONTROL:
        text = format(row["mean"][name], ",.0f" if is_count else ".3f")
    else:
        text = row["paired"][name].told(0 if is_count else 3)
    missed = sum(1 - one["recovered"] for one in row["each"]) if is_count else 0
    return f"{text} ({missed:.0f} did not)" if missed else text


def clear_of(rows: Sequence[Mapping[str, Any]], name: str, *, is_better: bool) -> list[str]:
    """Arms that are clearly better (or worse) than the control in a measure where less is better."""
    return [
        row["arm"]
        for row in rows
        if row["arm"] != CONTROL and row["paired"][name].is_clear and (row["paired"][name].mean < 0) == is_better
    ]
