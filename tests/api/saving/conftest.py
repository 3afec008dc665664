"""A run with three checkpoints, and copies of it that may be changed."""

import shutil
from pathlib import Path

import pytest

from tests.api.saving_parts import make


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints 4, 8 and 12; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    make(folder).train()
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))
