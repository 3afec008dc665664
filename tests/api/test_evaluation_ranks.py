"""Two processes see what one sees: every row once, in order, and the same loss."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.evaluation_ranks import evaluate
from tests.processes import start

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def rank(number: int, port: int, folder: Path) -> Any:
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    return start(
        [sys.executable, "-m", "tests.api.evaluation_ranks", str(folder)], cwd=ROOT, env=environment, text=True
    )


def near(found: Any) -> Any:
    """The same nest, to be compared as numbers are."""
    if isinstance(found, list):
        return [near(value) for value in found]
    return pytest.approx(found, rel=1e-5)


@pytest.mark.slow
def test_two_processes_evaluate_as_one_and_search_together(tmp_path: Path) -> None:
    port = free_port()
    ranks = [rank(number, port, tmp_path) for number in range(2)]
    texts = [process.communicate(timeout=900) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], texts
    alone = evaluate(tmp_path / "alone")
    main, other = (json.loads((tmp_path / f"rank-{number}.json").read_text(encoding="utf-8")) for number in range(2))
    searched = [main.pop("search"), other.pop("search")]
    for found in (main, other):
        assert {name: near(value) for name, value in found.items()} == alone
    assert [states for states, _ in searched] == [["COMPLETE", "PRUNED", "COMPLETE"], None]
    assert searched[0][1] == searched[1][1], "what one rank chooses, and prunes, the other does"
