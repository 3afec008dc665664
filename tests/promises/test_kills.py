"""Promises 1 and 3 on the real trainer: SIGKILL at random moments, and before every file operation of a save."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import ForkServer, Program, storm, sweep
from recipes import RECIPES, Small

from instar.checkpoint.protocol import newest, verify
from instar.core.errors import CheckpointError
from instar.core.rundir import RunFolder

PROGRAMS = Path(__file__).with_name("programs.py")
BRISK = ("train.budget=5 steps", "train.eval_every=3 steps", "train.save_every=2 steps")


def program(small: Small, *overrides: str) -> Program:
    return Program(PROGRAMS, "train", {"file_name": small.name, "overrides": list(small.but(*overrides).overrides)})


def kind(task: str) -> str:
    """The last recipe of a task."""
    from recipes import recipe

    return next(name for name in reversed(RECIPES) if recipe(name).task.kind == task)


STORMS = {kind("mlm"): 90, kind("causal_lm"): 90}
FEW = max(4, -(-20 // max(1, len(RECIPES) - len(STORMS))))


@pytest.mark.slow
@pytest.mark.parametrize("name", [kind("mlm"), kind("causal_lm"), kind("classify"), "dna-mlm-adaptive"])
def test_kills_change_nothing(name: str, shrunk: Callable, fast_path: Path, fork_server: ForkServer) -> None:
    """Of each kind of task, and of masking that learns."""
    met = storm(fork_server, program(shrunk(name), *BRISK), fast_path, kills=12, seed=RECIPES.index(name))
    assert met.problems == []
    assert met.kills >= 12


@pytest.mark.slow
def test_kills_change_nothing_in_any_stage(shrunk: Callable, fast_path: Path, fork_server: ForkServer) -> None:
    """Within stages, at their ends, and while the next one is put together."""
    stages = "stages=[{budget: 2 steps}, {budget: 2 steps, trainable: ['*.1.*']}, {budget: 1 steps, frozen: ['*.1.*']}]"
    small = shrunk(kind("mlm")).but("task.masking={kind: uniform}")
    met = storm(fork_server, program(small, *BRISK, stages), fast_path, kills=14, seed=3)
    assert met.problems == []
    assert met.kills >= 14


@pytest.mark.long
@pytest.mark.parametrize("name", RECIPES)
def test_a_kill_storm_changes_nothing(name: str, shrunk: Callable, fast_path: Path, fork_server: ForkServer) -> None:
    """Over all recipes at least 200 kills; training, evaluating and saving are all hit."""
    kills = STORMS.get(name, FEW)
    met = storm(fork_server, program(shrunk(name), *BRISK), fast_path, kills=kills, seed=RECIPES.index(name))
    assert met.problems == []
    assert met.kills >= kills


def test_the_storms_are_two_hundred_kills() -> None:
    assert sum(STORMS.get(name, FEW) for name in RECIPES) >= 200


@pytest.mark.slow
def test_power_loss_changes_nothing(shrunk: Callable, fast_path: Path, fork_server: ForkServer) -> None:
    """What was written and not synced is torn at the moment of the kill; lines of the log count too."""
    small = shrunk(kind("mlm")).but("data.eval={split: 0.2}")
    met = storm(fork_server, program(small, *BRISK), fast_path, kills=25, seed=7, power=True)
    assert met.problems == []


@pytest.mark.long
def test_killed_before_every_file_operation_of_a_save(
    shrunk: Callable, fast_path: Path, tmp_path: Path, fork_server: ForkServer
) -> None:
    """One step goes on from a checkpoint, saves, and lets go of the old one."""
    one = ("data.eval=null", "train.keep_last=1", "train.save_every=1 steps", "train.schedule={kind: constant}")
    small = shrunk(kind("mlm")).but(*one, "task.rate=0.2")
    life = fork_server.life(program(small, "train.budget=1 steps"), tmp_path / "begun")
    assert life.ending == "done", life.output

    def prepare(folder: Path) -> None:
        shutil.copytree(tmp_path / "begun", folder, dirs_exist_ok=True)

    def check(folder: Path) -> None:
        assert newest(RunFolder(folder), quarantine=False) is not None

    operations = sweep(fork_server, program(small, "train.budget=2 steps"), fast_path, prepare=prepare, check=check)
    assert operations > 30


def test_a_reader_sees_whole_checkpoints_only(shrunk: Callable, fast_path: Path, fork_server: ForkServer) -> None:
    """While a run saves and lets go, a reader who takes no lock looks again and again."""
    small, folder = shrunk(kind("mlm")), RunFolder(fast_path / "run")
    ended, looks, problems = threading.Event(), [], []

    def look() -> None:
        while not ended.is_set():
            for _, checkpoint in folder.checkpoints():
                try:
                    verify(checkpoint)
                except CheckpointError as error:
                    if checkpoint.is_dir():  # else it was let go while we read
                        problems.append(str(error))
            looks.append(newest(folder, quarantine=False))

    reader = threading.Thread(target=look)
    reader.start()
    every = ("data.eval=null", "train.save_every=1 steps", "train.keep_last=1")
    try:
        for budget in (25, 100, 400):  # a reader on a busy machine may have looked too seldom
            life = fork_server.life(program(small, *every, f"train.budget={budget} steps"), folder.path)
            if life.ending != "done" or len(set(looks)) > 5:
                break
    finally:
        ended.set()
        reader.join()
    assert life.ending == "done", life.output
    assert problems == []
    found = [checkpoint for checkpoint in looks if checkpoint is not None]
    assert len(set(found)) > 3
    steps = [int(checkpoint.name.rpartition("-")[2]) for checkpoint in found]
    assert steps == sorted(steps)
