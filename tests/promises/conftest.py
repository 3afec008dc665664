"""The fault harness and the shrunk recipes lie beside their tests."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from faults import ForkServer
    from recipes import Small


@pytest.fixture(scope="session")
def fork_server() -> "Iterator[ForkServer]":
    """One server for each test process; it imports torch once."""
    from faults import ForkServer

    with ForkServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pieces of the data and token caches, made once for each test process."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "cache").mkdir()
    return folder


@pytest.fixture(scope="session")
def shrunk(shared: Path) -> "Callable[[str], Small]":
    """A recipe by name, made small."""
    from recipes import small

    return lambda name: small(name, shared)


@pytest.fixture(scope="session")
def reference(shrunk: "Callable[[str], Small]", tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of an uninterrupted run of a shrunk recipe, made once for each choice of overrides."""
    from runs import run

    made: dict[tuple[str, ...], Path] = {}

    def find(name: str, *overrides: str) -> Path:
        if (name, *overrides) not in made:
            folder = tmp_path_factory.mktemp("reference") / "run"
            run(shrunk(name), folder, *overrides)
            made[name, *overrides] = folder
        return made[name, *overrides]

    return find


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """An empty folder in memory where the system has one (syncing a disk is most of a kill storm's time)."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=memory, prefix="instar-") as folder:
        yield Path(folder)
