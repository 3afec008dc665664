"""Which checkpoint a run goes on from, and what damage does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instar.api.checkpoints import finding, names
from instar.core.files.temporary import machine, unique_name
from tests.api.saving_parts import PLAIN, cut, make, steps


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", [cut, flip, Path.unlink], ids=["cut", "flipped", "gone"])
@pytest.mark.parametrize("name", sorted(PLAIN - {"MANIFEST.json"}))
def test_a_damaged_newest_checkpoint_is_passed_over(
    copy: Path, name: str, how: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    how(copy / "checkpoint-12" / name)
    assert make(copy)._find_checkpoint(True) == str(copy / "checkpoint-8")
    assert f"{name} " in caplog.text
    assert "is damaged and is passed over" in caplog.text
    assert steps(copy) == [4, 8, 12], "nothing is taken away"


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json", "optimizer.pt", "scheduler.pt"])
def test_a_damaged_checkpoint_of_transformers_is_passed_over(copy: Path, name: str) -> None:
    for folder in names.checkpoints(copy):
        for own in ("MANIFEST.json", "loop.json", "training_args.json"):
            (folder / own).unlink()
    trainer = make(copy)
    assert trainer._find_checkpoint(True) == str(copy / "checkpoint-12")
    cut(copy / "checkpoint-12" / name)
    assert trainer._find_checkpoint(True) == str(copy / "checkpoint-8")


def test_a_run_that_went_on_after_damage_is_the_run_without(run: Path, copy: Path) -> None:
    cut(copy / "checkpoint-12" / "model.safetensors")
    make(copy).train(resume_from_checkpoint=True)
    name = "checkpoint-12/model.safetensors"
    assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_a_checkpoint_that_is_not_there_gives_way_to_the_newest_beside_it(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(copy)
    assert trainer._find_checkpoint(str(copy / "checkpoint-50")) == str(copy / "checkpoint-12")
    assert "there is no such checkpoint; training goes on from" in caplog.text
    assert trainer._find_checkpoint(copy / "checkpoint-4") == str(copy / "checkpoint-4")
    for nothing in (None, False, ""):
        assert trainer._find_checkpoint(nothing) is None


def test_where_there_is_no_checkpoint_the_error_says_why(copy: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("mine")
    trainer = make(copy)
    for place in (empty, copy / "checkpoint-12-bogus", tmp_path / "none" / "checkpoint-3"):
        with pytest.raises(ValueError, match="Can't find a valid checkpoint at"):
            trainer._find_checkpoint(str(place))
    with pytest.raises(ValueError, match=r"Can't find a valid checkpoint.*it holds checkpoints, of which .*-12"):
        trainer._find_checkpoint(str(copy))
    with pytest.raises(ValueError, match="Can't find a valid checkpoint at"):
        trainer._load_from_checkpoint(str(empty))
    cut(copy / "checkpoint-8" / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer.pt has .* bytes.*others .* are checkpoint-4, checkpoint-12"):
        trainer._find_checkpoint(str(copy / "checkpoint-8"))
    with pytest.raises(TypeError, match="wanted a path or a bool"):
        trainer._find_checkpoint(3)
    other = make(tmp_path / "fresh")
    with pytest.raises(ValueError, match="No valid checkpoint found in output directory"):
        other.train(resume_from_checkpoint=True)
    for folder in names.checkpoints(copy):
        (folder / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match=r"No valid checkpoint found(.|\n)*trainer_state.json is missing"):
        trainer._find_checkpoint(True)


def test_what_others_put_beside_the_files_is_no_damage(copy: Path) -> None:
    (copy / "checkpoint-12" / "README.md").write_text("mine")
    (copy / "checkpoint-12" / "more").mkdir()
    (copy / "checkpoint-12" / "more" / "notes.txt").write_text("mine")
    assert make(copy)._find_checkpoint(True) == str(copy / "checkpoint-12")


def test_what_a_killed_save_left_is_cleared_away(copy: Path) -> None:
    dead = f".tmp-checkpoint-16-{machine()}-{2**23}-7-0123abcd"  # no process has this number
    alive = unique_name(copy / "checkpoint-20").name
    for name in (alive, dead, ".trash-checkpoint-2-77-ab12", ".trash-aside-checkpoint-2-7-a-7-b"):
        (copy / name).mkdir()
        (copy / name / "model.safetensors").write_bytes(b"half")
    (copy / ".tmp-of-the-user").mkdir()
    (copy / "checkpoint-12").rename(copy / ".aside-checkpoint-12-77-ab12")
    shutil.copytree(copy / "checkpoint-8", copy / ".aside-checkpoint-8-77-ab12")
    assert make(copy)._find_checkpoint(True) == str(copy / "checkpoint-12")
    assert sorted(path.name for path in copy.iterdir()) == [
        alive,
        ".tmp-of-the-user",
        "checkpoint-12",
        "checkpoint-4",
        "checkpoint-8",
    ]
    finding.sweep(copy / "none")
