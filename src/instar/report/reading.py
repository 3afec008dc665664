"""A run folder as values. Whatever a folder holds, reading it neither fails half-way nor takes a word on trust."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instar.core.errors import InputMissingError
from instar.core.files.plain import read_plain
from instar.core.rundir import RunFolder

MAX_RUN_FILE = 200_000
"""Bytes of run.yaml that a report shows."""


@dataclass(frozen=True)
class Series:
    """One number over the steps of a run; NaN where it was not finite."""

    steps: tuple[int, ...]
    values: tuple[float, ...]

    def finite(self) -> "Series":
        """Only the positions where the value is a number that can be drawn: finite, and below 1e100."""
        kept = [(step, value) for step, value in zip(self.steps, self.values, strict=True) if abs(value) < 1e100]
        return Series(tuple(step for step, _ in kept), tuple(value for _, value in kept))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder that was found."""

    step: int
    num_bytes: int
    is_whole: bool
    """It has its manifest, which is written last."""

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"checkpoint-{self.step}"


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds of its run so far."""

    name: str
    lines: tuple[dict[str, Any], ...]
    """Measurements by step; of two for the same split and step, the later written."""
    samples: tuple[dict[str, Any], ...]
    run_file: str | None
    checkpoints: tuple[Checkpoint, ...]
    num_unreadable: int
    """Lines that were not JSON objects with a step; a torn last line is not counted."""

    def splits(self) -> tuple[str, ...]:
        """train first, then the others by name."""
        found = {line["split"] for line in self.lines}
        return tuple(sorted(found, key=lambda split: (split != "train", split)))

    def measured(self) -> tuple[str, ...]:
        """Names of all numbers that were measured, in order of their first appearance."""
        names = {name: None for line in self.lines for name, value in line.items() if is_number(value)}
        return tuple(names)

    def series(self, key: str, split: str) -> Series:
        """The number `key` over the steps of a split; empty where it was never measured."""
        found = [line for line in self.lines if line["split"] == split and key in line]
        values = tuple(to_float(line[key]) for line in found)
        return Series(tuple(line["step"] for line in found), values)

    def last(self, key: str, split: str | None = None) -> Any:
        """The newest value of `key` that is not null, or None."""
        for line in reversed(self.lines):
            if line.get(key) is not None and split in (None, line["split"]):
                return line[key]
        return None


def read_run(path: Path) -> RunRecord:
    """Read a run folder, also of a run in progress; raises InputMissingError where there is nothing to report."""
    folder = RunFolder(path)
    if not path.is_dir():
        raise InputMissingError(f"{path}: a run folder was wanted, and there is none; name the folder that train made")
    lines, num_unreadable = _measurements(folder.metrics)
    if not lines:
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise InputMissingError(
            f"{folder.metrics}: no measurement to report yet (the folder holds {held}); "
            "wait until the run has logged its first step, or name another run folder"
        )
    samples = tuple(_objects(folder.samples))
    return RunRecord(
        name=path.resolve().name,
        lines=lines,
        samples=tuple(sample for sample in samples if sample is not None),
        run_file=_text(folder.run_file),
        checkpoints=tuple(_checkpoint(step, entry) for step, entry in folder.checkpoints()),
        num_unreadable=num_unreadable + sum(sample is None for sample in samples),
    )


def is_number(value: object) -> bool:
    """True for what JSON calls a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_float(value: object) -> float:
    """A number as a float; NaN for null, for what is no number, and for what no float can hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def _measurements(path: Path) -> tuple[tuple[dict[str, Any], ...], int]:
    newest: dict[tuple[int, str], dict[str, Any]] = {}
    num_unreadable = 0
    for line in _objects(path):
        step = None if line is None else line.get("step")
        if line is None or not isinstance(step, int) or isinstance(step, bool) or not 0 <= step < 2**53:
            num_unreadable += 1
            continue
        split = str(line.get("split", "train"))
        newest[step, split] = {**line, "step": step, "split": split}
    return _one_name(tuple(newest[index] for index in sorted(newest))), num_unreadable


def _one_name(lines: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Training calls any share of right targets `accuracy`; beside a masked accuracy it is that, in the same figure."""
    if not any("masked_accuracy" in line for line in lines):
        return lines
    return tuple(
        {
            "masked_accuracy" if key == "accuracy" and line["split"] == "train" else key: value
            for key, value in line.items()
        }
        for line in lines
    )


def _objects(path: Path) -> Iterator[dict[str, Any] | None]:
    """The JSON object of each line; None for a line that holds none. A last line without its end is torn: left out."""
    try:
        *whole, _torn = read_plain(path).split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read: {error.strerror}") from error
    for line in whole:
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        yield value if isinstance(value, dict) else None


def read_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines; a missing file has none, a line that is none is left out."""
    return (line for line in _objects(path) if line is not None)


def _text(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        content = file.read(MAX_RUN_FILE + 1)
    text = content[:MAX_RUN_FILE].decode("utf-8", "replace")
    return text + "\n# ... cut here: the file is longer" if len(content) > MAX_RUN_FILE else text


def _checkpoint(step: int, path: Path) -> Checkpoint:
    sizes = []
    for entry in path.rglob("*"):
        try:
            sizes.append(entry.lstat().st_size if entry.is_file() else 0)
        except FileNotFoundError:  # a run in progress removes its old checkpoints meanwhile
            continue
    return Checkpoint(step, sum(sizes), (path / "MANIFEST.json").is_file())
