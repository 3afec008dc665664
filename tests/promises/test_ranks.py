"""Promises 2 and 4 over ranks: two processes give what one gives, and both leave in order. Every recipe."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import ForkServer, Program
from recipes import RECIPES, Small, lines_of
from runs import SMOOTH, distance, losses, run

PROGRAMS = Path(__file__).with_name("programs.py")
BOTH = ("train.max_norm=0.05", SMOOTH)  # clipping sees the norm of the whole gradient


def on_ranks(server: ForkServer, small: Small, folder: Path, *overrides: str, **keywords: object) -> list[int]:
    """Exit codes of the ranks of one run; AssertionError if the launcher itself failed."""
    arguments = ["train", str(small.file), *small.but(*overrides).overrides, "--output", str(folder)]
    folder.parent.mkdir(exist_ok=True)
    life = server.life(Program(PROGRAMS, "ranks", {"arguments": arguments, **keywords}), folder)
    assert life.ending == "done", life.output
    return json.loads(folder.with_name(f"{folder.name}-codes.json").read_text())


@pytest.mark.parametrize("name", RECIPES)
def test_two_ranks_are_one(name: str, shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """An odd number of documents a step, the last step of an epoch shorter, a split that does not halve."""
    pieces = ("train.batch_samples=7", "train.micro_tokens=60", *BOTH)
    run(shrunk(name), tmp_path / "one", *pieces)
    assert on_ranks(fork_server, shrunk(name), tmp_path / "two", *pieces) == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-6
    for mine, theirs in zip(
        lines_of(tmp_path / "one" / "metrics.jsonl", "eval"),
        lines_of(tmp_path / "two" / "metrics.jsonl", "eval"),
        strict=True,
    ):
        assert mine.keys() == theirs.keys()
        assert [value for value in mine.values() if isinstance(value, float)] == pytest.approx(
            [value for value in theirs.values() if isinstance(value, float)], rel=1e-5, abs=1e-6
        )
        assert [value for value in mine.values() if not isinstance(value, float)] == [
            value for value in theirs.values() if not isinstance(value, float)
        ]


@pytest.mark.parametrize("name", [next(name for name in RECIPES if "classify" in name), "text-gpt"])
def test_fewer_documents_than_ranks(name: str, shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    few = ("train.batch_samples=1", "data.eval={split: 0.01}", *BOTH)
    run(shrunk(name), tmp_path / "one", *few)
    assert on_ranks(fork_server, shrunk(name), tmp_path / "two", *few, world=3) == [0, 0, 0]
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-6
    assert losses(tmp_path / "two", "eval") == pytest.approx(losses(tmp_path / "one", "eval"), rel=1e-5)


def test_ranks_that_are_asked_to_leave_save_and_leave_together(
    shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    small = shrunk("text-characters")
    codes = on_ranks(fork_server, small, tmp_path / "two", signals=[[3, int(signal.SIGTERM)]])
    assert codes == [75, 75]
    assert on_ranks(fork_server, small, tmp_path / "two") == [0, 0]
    assert on_ranks(fork_server, small, tmp_path / "whole") == [0, 0]
    assert distance(tmp_path / "two", tmp_path / "whole") == 0
    curves = [lines_of(tmp_path / name / "metrics.jsonl") for name in ("two", "whole")]
    assert curves[0] == curves[1]


def test_a_file_stops_all_ranks_after_the_same_step(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    small = shrunk("text-characters")
    (tmp_path / "two").mkdir()
    for name in ("stop", "save"):
        (tmp_path / "two" / name).touch()
    assert on_ranks(fork_server, small, tmp_path / "two") == [0, 0]
    assert [path.name for path in (tmp_path / "two").glob("checkpoint-*")] == ["checkpoint-1"]
    assert not (tmp_path / "two" / "stop").exists()
    assert on_ranks(fork_server, small, tmp_path / "two") == [0, 0]
    assert on_ranks(fork_server, small, tmp_path / "whole") == [0, 0]
    assert distance(tmp_path / "two", tmp_path / "whole") == 0


def test_ranks_that_meet_bad_input_leave_with_its_code(
    shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    codes = on_ranks(fork_server, shrunk("text-characters"), tmp_path / "two", "data.train.path=/nowhere.txt")
    assert codes == [66, 66]
    assert not (tmp_path / "two").exists()


def test_two_ranks_stream_as_one(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """Each rank reads the blocks for itself; steps that cross a block are cut alike."""
    streamed = ("data.streaming={documents: 3}", "data.eval=null", "train.batch_samples=7", *BOTH)
    run(shrunk("text-mlm"), tmp_path / "one", *streamed)
    assert on_ranks(fork_server, shrunk("text-mlm"), tmp_path / "two", *streamed) == [0, 0]
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-6
