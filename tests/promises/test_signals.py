"""Asked to leave, a run saves and leaves with its own code; asked twice, it leaves at once. Real processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import ForkServer, Life, Program
from recipes import RECIPES, Small
from runs import left

from instar.checkpoint.protocol import verify

PROGRAMS = Path(__file__).with_name("programs.py")
RARE = ("train.log_every=3", "train.save_every=100 steps", "train.eval_every=4 steps")


def command(server: ForkServer, small: Small, folder: Path, *signals: tuple[int, int]) -> Life:
    arguments = ["train", str(small.file), *small.but(*RARE).overrides, "--output", str(folder)]
    folder.parent.mkdir(exist_ok=True)
    return server.life(Program(PROGRAMS, "command", {"arguments": arguments, "signals": signals}), folder)


@pytest.mark.parametrize("name", RECIPES)
def test_preempted_and_resumed(
    name: str, shrunk: Callable, reference: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    """Saved at the very step, exit 75; the same command goes on, and the curve does not show it."""
    life = command(fork_server, shrunk(name), tmp_path / "run", (5, signal.SIGTERM))
    assert os.waitstatus_to_exitcode(life.code) == 75, life.output
    assert "saved at step 5" in life.output.replace("\n", " ")
    assert verify(tmp_path / "run" / "checkpoint-5")
    assert command(fork_server, shrunk(name), tmp_path / "run").ending == "done"
    assert left(tmp_path / "run") == left(reference(name, *RARE))


@pytest.mark.parametrize(
    ("signals", "code", "saved"),
    [
        ([(5, signal.SIGINT)], 130, True),
        ([(5, signal.SIGTERM), (5, signal.SIGTERM)], -signal.SIGTERM, False),
        ([(5, signal.SIGINT), (5, signal.SIGINT)], -signal.SIGINT, False),
        ([(8, signal.SIGTERM)], 0, True),  # in the last step: done is done
    ],
)
def test_other_ways_to_leave(  # noqa: PLR0917
    signals: list,
    code: int,
    saved: bool,  # noqa: FBT001
    shrunk: Callable,
    tmp_path: Path,
    fork_server: ForkServer,
) -> None:
    life = command(fork_server, shrunk("text-characters"), tmp_path / "run", *signals)
    assert os.waitstatus_to_exitcode(life.code) == code, life.output
    assert "Traceback" not in life.output
    assert bool(list((tmp_path / "run").glob(f"checkpoint-{signals[0][0]}"))) == saved
    assert command(fork_server, shrunk("text-characters"), tmp_path / "run").ending == "done"
