"""`status`: how far a run is, whether it is going on or over."""

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from instar.checkpoint.lineage import STATE
from instar.checkpoint.protocol import damage
from instar.core.budget import Budget
from instar.core.errors import CheckpointError, InputMissingError, UsageError
from instar.core.files.json_files import read_json
from instar.core.rundir import RunFolder
from instar.report.reading import read_run
from instar.run.config import RunConfig
from instar.run.folder import read_run_file
from instar.run.stages import Position, recorded

_SCORES = ("loss", "perplexity", "masked_accuracy", "accuracy", "f1", "matthews", "spearman")


Checkpoints = Sequence[tuple[int, Path]]
"""Step and folder, by step."""


def status(run: Path) -> dict[str, Any]:
    """What a run folder says: running, stopped or done; step, share of the budget, last figures, speed, time left.

    Only reads; the run may be writing meanwhile. InputMissingError where there is no run.
    """
    folder = RunFolder(run)
    if not folder.run_file.is_file():
        raise InputMissingError(f"{run}: no run here (no run.yaml); give a run folder, like runs/NAME")
    if (run / STATE).is_file():
        raise UsageError(f"{run}: is a checkpoint; its run is {run.parent}")
    config = read_run_file(folder.run_file)
    lines = _lines(folder)
    checkpoints = [(step, place, damage(place)) for step, place in folder.checkpoints()]
    damaged = [reason for _, _, reason in checkpoints if reason is not None]
    whole = [(step, place) for step, place, reason in checkpoints if reason is None]
    last = max((*lines, *_saved(whole)), key=lambda line: line["step"], default={})
    position, begun = _stage(config, whole)
    budget = config.stage(position.number).train.budget
    holder = _holder(folder)
    found: dict[str, Any] = {
        "run": str(run),
        "state": "running" if holder else "stopped",
        "task": config.task.kind,
        "step": last.get("step", 0),
        "budget": str(budget),
    }
    if position.count > 1:
        found["stage"] = f"{position.number + 1} of {position.count}"
    share = _share(_after(last, begun), budget, whole)
    if share is not None:
        share = (position.number + share) / position.count
    if share is not None:
        found["done"] = round(share, 4)
        if holder is None and share >= 1 - 1e-9:
            found["state"] = "done"
        measured = max(lines, key=lambda line: line["step"], default={})
        spent = _share(_after(measured, begun), budget, whole)
        spent = None if spent is None else (position.number + spent) / position.count
        if holder is not None and spent and share < 1:
            found["seconds_left"] = round(measured.get("seconds", 0.0) * (1 - share) / spent)
    found |= _figures(lines)
    if whole:
        found["checkpoint"] = str(whole[-1][1])
    if damaged:
        found["damaged"] = damaged
    return found | (holder or {})


def _stage(config: RunConfig, checkpoints: Checkpoints) -> tuple[Position, dict[str, Any]]:
    """(the stage that a run is in, its counters where that began), by its newest checkpoint that can be read."""
    for _, checkpoint in reversed(checkpoints if config.stages else ()):
        try:
            position = Position.at(config, checkpoint)
            record = read_json(checkpoint / STATE)
            return position, record["counters"] if position.is_handed_over else recorded(checkpoint)["begun"]
        except (CheckpointError, KeyError, TypeError, ValueError):
            continue
    return Position(count=max(1, len(config.stages))), {}


def _after(line: dict[str, Any], begun: dict[str, Any]) -> dict[str, Any]:
    """What a line counts since a stage began."""
    names = {"step": "steps", "samples": "samples", "tokens": "tokens"}
    return {name: float(line.get(name, 0)) - begun.get(key, 0) for name, key in names.items()}


def _lines(folder: RunFolder) -> Sequence[dict[str, Any]]:
    """What was measured; nothing yet where the run has just begun."""
    try:
        return read_run(folder.path).lines
    except InputMissingError:
        return ()


def _saved(checkpoints: Checkpoints) -> Iterator[dict[str, Any]]:
    """How far the newest checkpoint is that can be read: a run that was stopped between two lines of figures."""
    for step, checkpoint in reversed(checkpoints):
        try:
            counters = read_json(checkpoint / STATE)["counters"]
            yield {"step": step, "samples": float(counters["samples"]), "tokens": float(counters["tokens"])}
        except (CheckpointError, KeyError, TypeError, ValueError):
            continue
        return


def _share(last: dict[str, Any], budget: Budget, checkpoints: Checkpoints) -> float | None:
    """Part of the budget that is spent; None for epochs before the first checkpoint, which says how long one is."""
    name = {"steps": "step"}.get(budget.unit, budget.unit)
    if name != "epochs":
        return min(1.0, float(last.get(name, 0)) / budget.amount)
    for _, checkpoint in reversed(checkpoints):
        try:
            totals = read_json(checkpoint / STATE)["totals"]
            per_epoch = float(totals["samples"]) / float(totals["epochs"])
        except (CheckpointError, KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # rotated away meanwhile, or of an older instar
        return min(1.0, float(last.get("samples", 0)) / per_epoch / budget.amount)
    return None


def _figures(lines: Any) -> dict[str, Any]:
    """The newest figures of each split."""
    found: dict[str, Any] = {}
    for line in lines:
        split = line["split"]
        names = (*_SCORES, "lr", "tokens_per_second") if split == "train" else _SCORES
        found |= {f"{split}_{name}": line[name] for name in names if line.get(name) is not None}
    return found


def _holder(folder: RunFolder) -> dict[str, Any] | None:
    """Host and process that write the folder; None where none does. Asking does not disturb a run that starts."""
    try:
        holder = read_json(folder.holder)
        process = int(holder["process"])
        place = {"host": str(holder["host"]), "process": process}
        if holder.get("released") is True:
            return None
    except (CheckpointError, KeyError, TypeError, ValueError):
        return None
    if place["host"] != socket.gethostname():
        return place if folder.lock.exists() and _is_recent(folder) else None
    locked = _is_locked(folder.lock)
    if locked is None:
        locked = _is_alive(process)
    return place if locked else None


_RECENT_SECONDS = 600


def _is_recent(folder: RunFolder) -> bool:
    """On another host a lock cannot be seen: a run that wrote within ten minutes is taken for alive."""
    import time

    newest = max((path.stat().st_mtime for path in (folder.metrics, folder.holder) if path.is_file()), default=0.0)
    return time.time() - newest < _RECENT_SECONDS


def _is_locked(lock: Path) -> bool | None:
    """Whether a process holds the lock; None where the system does not tell."""
    try:
        number = lock.stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None if lock.exists() else False
    return any(line.split()[5].rpartition(":")[2] == str(number) for line in held if len(line.split()) > 5)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
