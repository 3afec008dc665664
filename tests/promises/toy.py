"""A trainer of thirty lines that keeps its promises, and one flaw at a time to break them."""

import json
from pathlib import Path

import torch

from instar.checkpoint import protocol
from instar.checkpoint.lock import RunLock
from instar.checkpoint.protocol import clean, newest, publish, rotate
from instar.checkpoint.tensors import read_tensors, write_tensors
from instar.core.files.durable import replace_bytes, sync_file
from instar.core.files.json_files import read_json, read_lines, write_json
from instar.core.rundir import RunFolder


def train(folder: Path, steps: int = 9, every: int = 3, flaw: str = "") -> None:
    """Fit a line in `steps` steps, saving every few; `flaw` names what this trainer does wrong."""
    run = RunFolder(folder)
    if flaw == "unsynced":
        protocol.sync_file = lambda _: None
    with RunLock.acquire(run):
        if flaw != "leaves rubbish":
            clean(run)
        step, weight, speed = 0, torch.zeros(64, 8), torch.zeros(64, 8)
        last = _trusting(run) if flaw == "in place" else newest(run)
        if last is not None:
            tensors = read_tensors(last / "model.safetensors")
            weight, step = tensors["weight"], read_json(last / "state.json")["step"]
            speed = speed if flaw == "forgets" else tensors["speed"]
        if flaw != "keeps the log":
            kept = [row for row in read_lines(run.metrics) if row["step"] <= step]
            replace_bytes(run.metrics, "".join(json.dumps(row) + "\n" for row in kept).encode())
        while step < steps:
            step += 1
            wanted = torch.rand(64, 8, generator=torch.Generator().manual_seed(step))
            speed = 0.9 * speed + (weight - wanted)
            weight = weight - 0.1 * speed
            _log(
                run, {"step": step, "split": "train", "loss": float((weight - wanted).square().sum()), "seconds": step}
            )
            if step % every == 0:
                tensors = {"weight": weight, "speed": speed}
                _save_in_place(run, step, tensors) if flaw == "in place" else _save(run, step, tensors)
                rotate(run, 2)


def _log(run: RunFolder, row: dict) -> None:
    with run.metrics.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _write(folder: Path, step: int, tensors: dict) -> None:
    write_tensors(folder / "model.safetensors", tensors)
    write_json(folder / "state.json", {"step": step, "parent": None})
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "vocabulary.txt").write_text("a b c")


def _save(run: RunFolder, step: int, tensors: dict) -> None:
    sync_file(run.metrics)
    publish(run.checkpoint(step), lambda folder: _write(folder, step, tensors))


def _save_in_place(run: RunFolder, step: int, tensors: dict) -> None:
    folder = run.checkpoint(step)
    folder.mkdir(exist_ok=True)
    _write(folder, step, tensors)
    protocol._seal(folder, folder.name)


def _trusting(run: RunFolder) -> Path | None:
    found = run.checkpoints()
    return found[-1][1] if found else None


def save_again(folder: Path) -> None:
    """One save over a checkpoint of the same step, and the rotation after it: the file operations of a save."""
    run = RunFolder(folder)
    with RunLock.acquire(run):
        clean(run)
        assert newest(run) == run.checkpoint(3)
        _save(run, 3, {"weight": torch.ones(8)})
        rotate(run, 1)
