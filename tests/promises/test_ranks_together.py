"""What ranks do together, checked by the ranks themselves over gloo."""

import json
from pathlib import Path

import pytest
from faults import ForkServer, Program

SPREAD = Path(__file__).with_name("spread.py")


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("rows_of_numbers", 3),
        ("facts_and_failures", 3),
        ("sharded_modules", 2),
        ("one_infinite_number", 2),
        ("with_accelerate", 2),
        ("after_accelerate", 2),
    ],
)
def test_ranks(name: str, world: int, tmp_path: Path, fork_server: ForkServer) -> None:
    life = fork_server.life(Program(SPREAD, "spread", {"name": name, "world": world}), tmp_path / "ranks")
    assert life.ending == "done", life.output
    assert json.loads((tmp_path / "ranks-codes.json").read_text()) == [0] * world, life.output
