"""Twenty-nine snippets of a course about the Trainer run unchanged but for the import."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.seed_run import blocks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("course")
    bare = folder / "bin"  # no compiler is to be found
    bare.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CXX", "CC")}
    environment |= {"HF_HUB_OFFLINE": "1", "PATH": str(bare), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "seed_run.py")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) | {"folder": folder}


def test_there_are_29() -> None:
    assert len(blocks()) == 29
    assert len(dict(blocks())) == 29


def test_all_of_them_run(found: Any) -> None:
    assert not found["failed"], "\n".join(f"{name}: {error}" for name, error in found["failed"].items())


def test_old_spellings_are_said_once_each_with_the_new(found: Any) -> None:
    for old, new in (
        ("warmup_ratio", "warmup_steps"),
        ("evaluation_strategy", "eval_strategy"),
        ("prediction_loop", "evaluation_loop"),
    ):
        told = [line for line in found["old"] if old in line]
        assert len(told) == 1, (old, found["old"])
        assert new in told[0]


def test_what_is_not_done_as_asked_is_said(found: Any) -> None:
    said = "\n".join(found["said"])
    assert "no C++ compiler here, so the model runs as it is" in said
    assert "checkpoint-50" in said
    assert "fails on text" in said


def test_what_they_give(found: Any) -> None:
    assert set(found["validation"]) >= {"validation_validation/accuracy", "validation_loss"}
    assert found["batch_size"] == 8
    assert found["objective"] in (0.0, 0.5, 1.0)
    assert found["resumed"] == 1
    folder = found["folder"] / "out"
    for name in ("manual-save/model.safetensors", "manual/trainer_state.json", "manual/README.md"):
        assert (folder / name).is_file(), name
