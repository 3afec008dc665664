"""The fault harness lies beside its tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from faults import ForkServer


@pytest.fixture(scope="session")
def fork_server() -> "Iterator[ForkServer]":
    """One server for each test process; it imports torch once."""
    from faults import ForkServer

    with ForkServer() as server:
        yield server


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """An empty folder in memory where the system has one (syncing a disk is most of a kill storm's time)."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory, prefix="instar-") as folder:
        yield Path(folder)
