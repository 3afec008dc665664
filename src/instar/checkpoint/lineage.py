"""Where a checkpoint comes from: itself, its parent, its parent's parent, to the root."""

import os
from pathlib import Path
from typing import Any

from instar.core.errors import CheckpointError
from instar.core.files.json_files import read_json
from instar.core.rundir import RunFolder

STATE = "state.json"
_KEYS = ("step", "parent", "run_hash", "data_fingerprint", "tokenizer_fingerprint", "versions")


def parent_reference(checkpoint: Path, parent: Path) -> str:
    """How `checkpoint` names its parent in `state.json`: relative, so folders that move together stay related."""
    return Path(os.path.relpath(parent.resolve(), checkpoint.resolve())).as_posix()


def no_checkpoint(folder: Path) -> CheckpointError:
    """What to tell somebody who named a folder that is no checkpoint; of a run's folder the newest one is named."""
    inside = RunFolder(folder).checkpoints()
    hint = f"did you mean {inside[-1][1]}?" if inside else "give one, like runs/NAME/checkpoint-500"
    return CheckpointError(f"{folder}: is no checkpoint of instar; {hint}")


def chain(checkpoint: Path) -> list[dict[str, Any]]:
    """A row for each checkpoint from this one to the root: path, missing, problem, and what `state.json` says.

    A parent that is gone is the last row, with `missing` True; one that cannot be read, or leads in a circle,
    is the last row with a `problem`. Nothing but `state.json` is read.
    """
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    place: Path | None = checkpoint
    while place is not None:
        place = place.resolve()
        row = _row(place, seen)
        rows.append(row)
        seen.add(str(place))
        parent = row["parent"]
        ends = row["missing"] or row["problem"] or not parent
        place = None if ends else place / parent
    return rows


def _row(place: Path, seen: set[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"path": str(place), "missing": not place.is_dir(), "problem": None}
    row.update(dict.fromkeys(_KEYS))
    if row["missing"]:
        return row
    if str(place) in seen:
        return {**row, "problem": "it is its own ancestor"}
    try:
        state = read_json(place / STATE)
    except CheckpointError as error:
        return {**row, "problem": str(error)}
    if not isinstance(state, dict) or not isinstance(state.get("parent"), str | None):
        return {**row, "problem": f"{place / STATE}: wanted an object whose parent is a path or null"}
    row.update({key: state.get(key) for key in _KEYS})
    return row
