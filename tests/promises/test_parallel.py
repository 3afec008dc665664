"""Weights in parts give what whole ones give, and a checkpoint does not say who trained it. Real processes."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from faults import ForkServer, Life, Program
from recipes import Small
from runs import SMOOTH, distance, left, losses, run
from torch import distributed

from instar.core.errors import UsageError

PROGRAMS = Path(__file__).with_name("programs.py")
EXACT = ("train.max_norm=0.05", SMOOTH)  # clipping sees the norm of the whole gradient
FEW = ("train.budget=5 steps", "train.eval_every=100 steps", "train.save_every=100 steps", "data.eval={split: 0.05}")
PIECES = ("train.batch_samples=7", "train.micro_tokens=60")
LLAMA = "model.config=llama"
TERM = int(signal.SIGTERM)


def ranks(
    server: ForkServer, small: Small, folder: Path, *overrides: str, world: int, until: int | None = None
) -> tuple[list[int], Life]:
    """Exit codes of the ranks of one run, which is asked to leave after step `until`."""
    arguments = ["train", str(small.file), *small.but(*overrides).overrides, "--output", str(folder)]
    folder.parent.mkdir(exist_ok=True)
    keywords = {"arguments": arguments, "world": world, "signals": [[until, TERM]] if until else []}
    life = server.life(Program(PROGRAMS, "ranks", keywords), folder)
    assert life.ending == "done", life.output
    return json.loads(folder.with_name(f"{folder.name}-codes.json").read_text()), life


@pytest.mark.parametrize(
    ("name", "world", "parallel", "more"),
    [
        (
            "text-mlm",
            2,
            "{kind: fsdp}",
            (*PIECES, "train.average={decay: 0.9}", "train.eval_every=1 steps", "train.best_metric=masked_accuracy"),
        ),
        ("splice-classify", 3, "{kind: fsdp, reshard_after_forward: false}", ("train.batch_samples=1",)),
        ("text-gpt", 2, "{tp: 2}", (*PIECES, LLAMA, "model.num_key_value_heads=2", "train.average={decay: 0.9}")),
        ("splice-classify", 4, "{kind: fsdp, tp: 2}", PIECES),
        ("text-gpt", 4, "{tp: 2}", ("model.config=qwen3",)),
    ],
    ids=["sharded, pieces", "fewer documents than ranks", "tensor parallel", "both", "tensor parallel, replicas"],
)
def test_parts_are_the_whole(  # noqa: PLR0917
    name: str, world: int, parallel: str, more: tuple, shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    """Curve, weights, optimizer, average and scores; uneven shares, clipping, tied tables, cut-down tables."""
    more = (*FEW, *EXACT, *more)
    run(shrunk(name), tmp_path / "one", *more)
    codes, life = ranks(fork_server, shrunk(name), tmp_path / "parts", *more, f"train.parallel={parallel}", world=world)
    assert codes == [0] * world, life.output
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    assert losses(tmp_path / "parts", "eval") == pytest.approx(losses(tmp_path / "one", "eval"), rel=1e-5)
    mine, theirs = left(tmp_path / "one"), left(tmp_path / "parts")
    assert mine.keys() == theirs.keys()
    assert (tmp_path / "parts" / "samples.jsonl").exists() == (tmp_path / "one" / "samples.jsonl").exists()
    for file in (key for key in mine if key.endswith(".safetensors")):
        assert distance(tmp_path / "one", tmp_path / "parts", file) < 1e-6, file


def test_from_four_to_two_to_one(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """Sharded over four, then divided over two, then whole on one: one curve."""
    small, folder = shrunk("text-gpt").but(*FEW, LLAMA, *EXACT), tmp_path / "run"
    run(small, tmp_path / "one")
    kinds = [
        (4, "{kind: fsdp, replicas: 2}", 1, 75),
        (2, "{tp: 2}", 2, 75),
        (2, "{kind: ddp}", 3, 75),
        (1, "{}", None, 0),
    ]
    for world, parallel, until, code in kinds:
        codes, life = ranks(fork_server, small, folder, f"train.parallel={parallel}", world=world, until=until)
        assert codes == [code] * world, life.output
    assert losses(folder) == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    assert distance(folder, tmp_path / "one") < 1e-6
    assert distance(folder, tmp_path / "one", "optimizer.safetensors") < 1e-6


def test_the_same_ranks_go_on_bit_for_bit(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """Dropout and an average of the weights included."""
    small = shrunk("text-gpt").but(
        *FEW, LLAMA, "model.dropout=0.1", "train.average={decay: 0.9}", "train.parallel={kind: fsdp}"
    )
    codes, life = ranks(fork_server, small, tmp_path / "run", world=2, until=3)
    assert codes == [75, 75], life.output
    for folder in ("run", "whole"):
        assert ranks(fork_server, small, tmp_path / folder, world=2)[0] == [0, 0]
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_ranks_tell_an_error_once(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    bad = ("data.train.path=/nowhere.txt", "train.parallel={kind: fsdp}")
    codes, life = ranks(fork_server, shrunk("text-characters"), tmp_path / "run", *bad, world=3)
    assert codes == [66] * 3
    assert life.output.count("/nowhere.txt") == 1, life.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "override", "wanted"),
    [
        ("text-gpt", "train.parallel={tp: 2}", "there is no plan for the family gpt2"),
        ("splice-classify", "train.parallel={kind: fsdp, layers: [BertLayers]}", "the model has no BertLayers"),
        ("splice-classify", "train.parallel={kind: fsdp, replicas: 4}", "wanted a multiple of 4 processes"),
        ("splice-classify", "train.parallel={kind: ddp, backend: mpi}", "no mpi"),
        ("splice-classify", "train.parallel={kind: fsdq}", "fsdq"),
    ],
)
def test_what_cannot_be_divided_is_refused(  # noqa: PLR0917
    name: str, override: str, wanted: str, shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    codes, life = ranks(fork_server, shrunk(name), tmp_path / "run", override, world=2)
    assert codes == [2, 2]
    assert life.output.replace("\n", " ").count(wanted) == 1, life.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("override", ["{tp: 2}", "{kind: fsdp, replicas: 2}"])
def test_one_process_cannot_divide(override: str, shrunk: Callable, tmp_path: Path) -> None:
    """Nothing is left open: the next run is not the worse for it."""
    with pytest.raises(UsageError, match=r"wanted a multiple of 2 processes; this run has 1 process; start it with"):
        run(shrunk("text-characters"), tmp_path / "run", f"train.parallel={override}")
    assert not distributed.is_initialized()


def test_one_process_shards_in_a_group_of_its_own(shrunk: Callable, tmp_path: Path) -> None:
    """And leaves it: a second run of the same process opens another."""
    small = shrunk("text-characters").but(*FEW, *EXACT)
    run(small, tmp_path / "one")
    for name in ("first", "second"):
        run(small, tmp_path / name, "train.parallel={kind: fsdp}")
        assert not distributed.is_initialized()
        assert distance(tmp_path / "one", tmp_path / name) < 1e-6
