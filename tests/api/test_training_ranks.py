"""Two processes train as one does on the same steps."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.api.test_evaluation_ranks import free_port
from tests.api.training_ranks import train_all
from tests.processes import start

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    port = str(free_port())
    ranks = [
        start(
            [sys.executable, "-m", "tests.api.training_ranks", str(tmp_path)],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                "RANK": str(number),
                "LOCAL_RANK": str(number),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            },
            text=True,
        )
        for number in range(2)
    ]
    texts = [process.communicate(timeout=900) for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], texts
    alone = train_all(tmp_path / "alone", 1)
    for number in range(2):
        found = json.loads((tmp_path / f"rank-{number}.json").read_text(encoding="utf-8"))
        assert found.pop("goes on") == [True, True]
        assert found.keys() == alone.keys()
        for name, (lines, ended) in found.items():
            assert ended == pytest.approx(alone[name][1], abs=2e-5), name
            for mine, theirs in zip(lines, alone[name][0], strict=True):
                assert mine == pytest.approx(theirs, rel=1e-4), name
