"""The fault harness itself: a trainer that keeps its promises passes, and each planted flaw is found."""

from pathlib import Path

import pytest
from faults import ForkServer, Program, storm, sweep

TOY = Path(__file__).with_name("toy.py")


@pytest.mark.long
def test_a_sound_trainer_survives_a_kill_storm(fork_server: ForkServer, fast_path: Path) -> None:
    met = storm(fork_server, Program(TOY, "train"), fast_path, kills=100, seed=1)
    assert met.problems == []
    assert met.kills >= 100
    assert met.lives > met.runs > 0


@pytest.mark.long
def test_a_sound_trainer_survives_power_loss(fork_server: ForkServer, fast_path: Path) -> None:
    met = storm(fork_server, Program(TOY, "train"), fast_path, kills=40, seed=2, power=True)
    assert met.problems == []


def test_a_sound_trainer_survives_a_kill_before_every_file_operation(fork_server: ForkServer, fast_path: Path) -> None:
    assert sweep(fork_server, Program(TOY, "train", {"steps": 4, "every": 2}), fast_path) > 20


@pytest.mark.parametrize("flaw", ["in place", "keeps the log", "forgets", "leaves rubbish"])
def test_a_flaw_is_found(fork_server: ForkServer, fast_path: Path, flaw: str) -> None:
    met = storm(fork_server, Program(TOY, "train", {"flaw": flaw}), fast_path, kills=60, seed=3)
    assert met.problems != []


def test_files_that_are_not_synced_are_found_by_power_loss(fork_server: ForkServer, fast_path: Path) -> None:
    program = Program(TOY, "train", {"flaw": "unsynced"})
    assert storm(fork_server, program, fast_path, kills=60, seed=4, power=True).problems != []


def test_a_failing_program_is_no_success(fork_server: ForkServer, fast_path: Path) -> None:
    life = fork_server.life(Program(TOY, "train", {"flaw": 1, "every": 0}), fast_path)
    assert life.ending == "failed"
    assert "ZeroDivisionError" in life.output


def test_a_hanging_program_is_ended(fork_server: ForkServer, fast_path: Path) -> None:
    life = fork_server.life(Program(TOY, "train", {"steps": 10**9, "every": 10**9}), fast_path, limit=0.5)
    assert life.ending == "hung"
