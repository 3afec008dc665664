"""A small checkpoint to handle roughly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instar.checkpoint.protocol import publish
from instar.checkpoint.tensors import write_tensors
from instar.core.files.json_files import write_json
from instar.core.rundir import RunFolder


def write_parts(folder: Path, step: int) -> None:
    """What a trainer writes: weights, optimizer, state, a subfolder."""
    chance = torch.Generator().manual_seed(step)
    write_tensors(
        folder / "model.safetensors", {"weight": torch.rand(20, 5, generator=chance), "step": torch.tensor(step)}
    )
    write_tensors(folder / "optimizer.safetensors", {"speed": torch.rand(20, 5, generator=chance)})
    write_json(folder / "state.json", {"step": step, "parent": None, "loss": 1.25 + step, "rate": 1e-3})
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocabulary.txt").write_text("the\nof\nand\n")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def save(run: RunFolder) -> Callable[[int], Path]:
    """Publish the checkpoint of a step."""

    def _save(step: int) -> Path:
        publish(run.checkpoint(step), lambda folder: write_parts(folder, step))
        return run.checkpoint(step)

    return _save


@pytest.fixture
def names() -> Callable[[RunFolder], list[str]]:
    """What lies in a run folder."""
    return lambda run: sorted(path.name for path in run.path.iterdir())
