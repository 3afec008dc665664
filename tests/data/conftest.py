"""Where the reference data lie."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def reference_data() -> Callable[[str], Path]:
    """Path of a reference file; the test is skipped where it is absent."""
    folder = Path(os.environ.get("INSTAR_DATA") or Path(__file__).parents[3] / "shared" / "data")

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"needs {name} of the reference data (INSTAR_DATA)")
        return folder / name

    return find
