"""Files of a checkpoint, under the names that other tools look for."""

import os
import re
from pathlib import Path

PREFIX = "checkpoint"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
OLD_WEIGHTS = "pytorch_model.bin"
OLD_WEIGHTS_INDEX = "pytorch_model.bin.index.json"
ADAPTER = "adapter_model.safetensors"
OLD_ADAPTER = "adapter_model.bin"
OPTIMIZER = "optimizer.pt"
SCHEDULER = "scheduler.pt"
SCALER = "scaler.pt"
STATE = "trainer_state.json"
ARGUMENTS = "training_args.json"
"""Ours, and read again."""
OLD_ARGUMENTS = "training_args.bin"
"""Written because other tools look for it, and never read."""
AVERAGE = "average.safetensors"
LOOP = "loop.json"
"""What the loop carries from one step to the next beside the state: sums that were not logged yet."""

_CHECKPOINT = re.compile(rf"{PREFIX}-([0-9]+)")


def step_of(folder: Path) -> int | None:
    """The step in a checkpoint's name; None for any other name."""
    match = _CHECKPOINT.fullmatch(folder.name)
    return int(match[1]) if match else None


def checkpoint_name(step: int) -> str:
    """The folder of a step in its run folder."""
    return f"{PREFIX}-{step}"


def random_state(rank: int, world_size: int) -> str:
    """The file with the random state of one process."""
    return "rng_state.pth" if world_size <= 1 else f"rng_state_{rank}.pth"


def checkpoints(run: str | os.PathLike[str]) -> list[Path]:
    """Folders named like checkpoints, by step; the clock plays no part."""
    found = [entry for entry in Path(run).iterdir() if entry.is_dir()] if Path(run).is_dir() else []
    steps = {entry: step for entry in found if (step := step_of(entry)) is not None}
    return sorted(steps, key=lambda entry: steps[entry])
