"""Whether two runs were one and the same."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.core.files.json_files import read_lines
from instar.core.rundir import RunFolder

TIMES = frozenset({"seconds", "tokens_per_second"})
"""The only figures that may differ between a run and the same run again."""
_FILES = ("model.safetensors", "optimizer.safetensors")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared, and every difference that was found."""

    num_lines: int
    num_figures: int
    last_step: int
    digest: str
    """SHA-256 of the first run's final weights."""
    differences: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        """No difference at all: not in a digit of a logged figure, not in a bit of the final weights."""
        return not self.differences


def compare(one: RunFolder, other: RunFolder) -> Comparison:
    """Every logged line but its times, every sample, and the final weights and optimizer state, bit by bit."""
    mine, theirs = _lines(one.metrics), _lines(other.metrics)
    differences = _unequal("metrics.jsonl", mine, theirs)
    differences += _unequal("samples.jsonl", read_lines(one.samples), read_lines(other.samples))
    (last, final), (other_last, other_final) = one.checkpoints()[-1], other.checkpoints()[-1]
    if last != other_last:
        differences.append(f"the last checkpoints are of step {last} and of step {other_last}")
    digests = {name: (_digest(final / name), _digest(other_final / name)) for name in _FILES}
    differences += [f"{name} has another SHA-256" for name, (left, right) in digests.items() if left != right]
    return Comparison(
        num_lines=len(mine),
        num_figures=sum(map(len, mine)),
        last_step=last,
        digest=digests[_FILES[0]][0],
        differences=tuple(differences),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name not in TIMES} for line in read_lines(path)]


def _unequal(name: str, mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    if len(mine) != len(theirs):
        return [f"{name} has {len(mine)} lines, and the other {len(theirs)}"]
    for number, (left, right) in enumerate(zip(mine, theirs, strict=True), start=1):
        if left != right:
            keys = sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key))
            return [f"{name}:{number} differs in {', '.join(keys)}"]
    return []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
