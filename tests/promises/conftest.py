"""The fault harness lies beside its tests."""

import sys
from collections.abc import Iterator
from pathlib import Path
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
