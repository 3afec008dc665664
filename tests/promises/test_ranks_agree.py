"""Ranks that are about to train different things stop together, and the odd one is named. Two real processes each.

The last rank stands for a second host: it has files, arguments or faults of its own.
"""

import json
import shutil
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from faults import ForkServer, Program
from recipes import Small
from runs import break_off, left

from instar.data.tokenizer import build_tokenizer

PROGRAMS = Path(__file__).with_name("programs.py")
FEW = ("train.eval_every=100 steps", "train.save_every=2 steps", "train.budget=6 steps")
ODD = f"rank 1 on {socket.gethostname()}"


def two(server: ForkServer, folder: Path, arguments: list[str], **odd: Any) -> tuple[list[int], str]:
    """Exit codes of two ranks of which the second is odd, and all that was printed; never a hang."""
    life = server.life(Program(PROGRAMS, "ranks", {"arguments": arguments, "odd": odd}), folder, limit=300)
    assert life.ending == "done", (life.ending, life.output)
    return json.loads(folder.with_name(f"{folder.name}-codes.json").read_text()), life.output


def command(small: Small, folder: Path, *overrides: str) -> list[str]:
    return ["train", str(small.file), *small.but(*overrides).overrides, "--output", str(folder)]


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder and its content, but for who holds it."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", ".holder.json")]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def begun(shrunk: Callable, tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, Path]:
    """A run that ended after step 4 of 6, with checkpoints 2 and 4."""
    small, folder = shrunk("text-characters").but(*FEW), tmp_path_factory.mktemp("begun") / "run"
    break_off(small, folder, "saved", 4)
    return small, folder


def _lacks(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint-4")


def _damaged(folder: Path) -> None:
    file = folder / "checkpoint-4" / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [(_lacks, "checkpoint-4: is not a folder"), (_damaged, "optimizer.safetensors has other content")],
)
def test_a_host_without_the_same_checkpoint_is_named(
    spoil: Callable, said: str, begun: tuple, tmp_path: Path, fork_server: ForkServer
) -> None:
    """Neither host goes on from an older one, and nothing of the run changes."""
    small, folder = begun
    for name in ("main", "odd"):
        shutil.copytree(folder, tmp_path / name)
    spoil(tmp_path / "odd")
    before = tree(tmp_path / "main")
    codes, output = two(
        fork_server, tmp_path / "main", command(small, tmp_path / "main"), command=command(small, tmp_path / "odd")
    )
    assert codes == [65, 65], output
    assert output.count(ODD) == 1
    assert "checkpoint-4: expected MANIFEST.json" in output
    assert said in output
    assert tree(tmp_path / "main") == before


def test_a_host_with_another_whole_checkpoint_is_named(
    begun: tuple, shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    """Of one name and step, and each whole in itself."""
    small, folder = begun
    shutil.copytree(folder, tmp_path / "main")
    break_off(small.but("seed=5"), tmp_path / "odd", "saved", 4)
    codes, output = two(
        fork_server, tmp_path / "main", command(small, tmp_path / "main"), command=command(small, tmp_path / "odd")
    )
    assert codes == [65, 65], output
    assert output.count(ODD) == 1
    assert output.count("MANIFEST.json") == 2, output


def test_a_listing_that_is_out_of_date_changes_nothing(begun: tuple, tmp_path: Path, fork_server: ForkServer) -> None:
    """The main process chooses, and the other finds the checkpoint by its name."""
    small, folder = begun
    for name, fault in (("odd", "lists nothing"), ("whole", "none")):
        shutil.copytree(folder, tmp_path / name)
        codes, output = two(fork_server, tmp_path / name, command(small, tmp_path / name), fault=fault)
        assert codes == [0, 0], output
    assert left(tmp_path / "odd") == left(tmp_path / "whole")


@pytest.mark.parametrize(
    ("overrides", "fault", "said"),
    [
        (
            ("train.optimizer.lr=0.5", "train.log_every=3"),
            "none",
            ("train.optimizer.lr: expected 0", "train.log_every"),
        ),
        (("train.parallel={kind: fsdp}",), "none", ("train.parallel: expected", '"kind":"fsdp"')),
        ((), "other version", ("transformers: expected", "got 0.0.1")),
    ],
)
def test_a_host_with_another_run_is_named(  # noqa: PLR0917
    overrides: tuple, fault: str, said: tuple, shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    small, folder = shrunk("text-characters").but(*FEW), tmp_path / "run"
    mine, theirs = command(small, folder), command(small, folder, *overrides)
    codes, output = two(fork_server, folder, mine, command=theirs, fault=fault)
    assert codes == [2, 2], output
    assert ODD in output
    assert all(text in output for text in said), output
    assert not folder.exists()


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ("text", 65, "data.train: expected content"),
        ("tokenizer", 65, "tokenizer: expected"),
        ("no text", 66, "texts.txt"),
    ],
)
def test_a_host_with_other_input_is_named(  # noqa: PLR0917
    change: str, code: int, said: str, shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    """Files of the same names."""
    small = shrunk("text-characters").but(*FEW)
    for name in ("main", "odd"):
        is_other = name == "odd"
        (tmp_path / name).mkdir()
        letters = "eotbrn dxs" if is_other and change == "tokenizer" else "eotbrn d"
        build_tokenizer(small.config.tokenizer, lambda letters=letters: [letters]).save(tmp_path / name / "tokens")
        if not (is_other and change == "no text"):
            text = "to be or not to do\n\n" if is_other and change == "text" else "to be or not to be\n\n"
            (tmp_path / name / "texts.txt").write_text(text * 50)
    own = ("data.train.path=texts.txt", "tokenizer={kind: from_folder, path: tokens}", "data.cache=cache")
    arguments = command(small, tmp_path / "run", *own)
    codes, output = two(
        fork_server, tmp_path / "run", arguments, folders=[str(tmp_path / name) for name in ("main", "odd")]
    )
    assert codes == [code] * 2, output
    assert ODD in output
    assert said in output
    assert not (tmp_path / "run").exists()


def test_unequal_masks_are_met_before_they_are_added_up(
    shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    folder = tmp_path / "run"
    codes, output = two(fork_server, folder, command(shrunk("text-mlm-adaptive"), folder, *FEW), fault="masks less")
    assert codes == [70, 70], output
    assert "in what they prepared for step 3" in output
    assert output.count(f"{ODD}: got") == 2, output
    assert "targets: expected" in output
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]


def test_all_leave_with_the_code_of_the_one_that_failed(
    shrunk: Callable, tmp_path: Path, fork_server: ForkServer
) -> None:
    """The others meet a broken exchange, which is no fault of theirs."""
    folder = tmp_path / "run"
    codes, output = two(fork_server, folder, command(shrunk("text-characters"), folder, *FEW), fault="fails alone")
    assert codes == [74, 74], output
    assert output.count("the disk of one host is full") == 1
    assert "Traceback" not in output
