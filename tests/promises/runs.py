"""Start real runs of shrunk recipes, break them off at a chosen moment, and look at what is left."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from recipes import Small, lines_of
from safetensors.torch import load_file

from instar.run import prepare
from instar.run.train import train
from instar.trainer import Callback, StepResult, TrainState

prepare.PREVIEW_ROWS = 1  # writing text token by token is most of a tiny run's time


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of the run may handle it."""


class Kill(Callback):
    """Ends the process (as it were) at a moment: `event` of step `step`."""

    def __init__(self, event: str, step: int) -> None:
        self.event, self.step = event, step

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        self._at("step_ended", state)

    def evaluated(self, state: TrainState, scores: Mapping[str, Any]) -> None:
        self._at("evaluated", state)

    def saved(self, state: TrainState, folder: Path) -> None:
        self._at("saved", state)

    def _at(self, event: str, state: TrainState) -> None:
        if (event, state.step) == (self.event, self.step):
            raise Killed


def run(small: Small, folder: Path, *overrides: str, resume: str = "auto", extra: Sequence[Callback] = ()) -> dict:
    """One life of a run; its summary."""
    return train(small.file, small.but(*overrides).overrides, output=folder, resume=resume, extra=extra)


def break_off(small: Small, folder: Path, event: str, step: int, *overrides: str) -> None:
    """A life that ends at a moment without a word; AssertionError if the moment never came."""
    try:
        run(small, folder, *overrides, extra=[Kill(event, step)])
    except Killed:
        return
    raise AssertionError(f"the run never came to {event} at step {step}")


def last(folder: Path) -> Path:
    """The newest checkpoint of a run."""
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def tensors(folder: Path, file: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """Weights of a run's newest checkpoint, or what another file of it holds."""
    return load_file(last(folder) / file)


def left(folder: Path) -> dict[str, Any]:
    """All that may not depend on how often a run was ended: curve, previews, and bytes of weights and optimizer."""
    checkpoint = last(folder)
    hashes = {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(checkpoint.glob("*.safetensors"))}
    samples = folder / "samples.jsonl"
    return {
        "checkpoint": checkpoint.name,
        "curve": lines_of(folder / "metrics.jsonl"),
        "samples": samples.read_text() if samples.is_file() else "",
        **hashes,
    }


def distance(left: Path, right: Path, file: str = "model.safetensors") -> float:
    """The largest difference of any weight of two runs, or of what another file of their checkpoints holds."""
    mine, theirs = tensors(left, file), tensors(right, file)
    assert mine.keys() == theirs.keys()
    return max(float((mine[name] - theirs[name]).abs().max()) for name in mine if mine[name].numel())


def losses(folder: Path, split: str = "train") -> list[float]:
    return [row["loss"] for row in lines_of(folder / "metrics.jsonl", split)]


SMOOTH = "train.optimizer.eps=1e-4"
"""Adam divides by the gradient's size: with its usual epsilon, rounding noise in gradients that are zero in
theory moves weights at full speed. With this one, weights are as close as gradients are."""
