"""A process that dies before any file operation of a save leaves whole checkpoints and no work for anybody."""

import shutil
from pathlib import Path

import pytest
from faults import ForkServer, Outcome, Program, sweep
from toy import save_again

from instar.checkpoint.protocol import newest, publish, verify
from instar.core.rundir import RunFolder

TOY = Path(__file__).with_name("toy.py")


def _files(folder: Path) -> dict[str, object]:
    return {path.name: verify(path)["files"] for path in folder.glob("checkpoint-*")}


def _old(folder: Path, step: int) -> None:
    publish(RunFolder(folder).checkpoint(step), lambda place: (place / "old.txt").write_text(f"{step}") and None)


@pytest.mark.parametrize(
    ("before", "power"),
    [
        ((1, 2, 3), True),
        *(
            pytest.param(before, power, marks=pytest.mark.long)
            for before in ((3,), (2, 3), (1, 2, 3))
            for power in (False, True)
            if (before, power) != ((1, 2, 3), True)
        ),
    ],
)
def test_saving_over_a_checkpoint_and_rotating(
    fork_server: ForkServer, fast_path: Path, before: tuple[int, ...], *, power: bool
) -> None:
    """The same step again is the hardest save: the old one must go, and something whole must always be there."""

    def prepare(folder: Path) -> None:
        (folder / "metrics.jsonl").write_text('{"step": 3}\n')
        for step in before:
            _old(folder, step)

    def check(folder: Path) -> None:
        run = RunFolder(folder)
        if len(before) > 1:  # a reader who may not repair anything sees a whole checkpoint, at every moment
            assert newest(run, quarantine=False) is not None
        copy = RunFolder(folder.with_name("copy"))
        shutil.copytree(folder, copy.path)
        assert newest(copy) == copy.checkpoint(3)  # the old one or the new one, never lost
        assert not (copy.path / "quarantine").exists()
        save_again(copy.path)
        assert list(_files(copy.path)) == ["checkpoint-3"]
        shutil.rmtree(copy.path)

    operations = sweep(
        fork_server, Program(TOY, "save_again"), fast_path, prepare=prepare, check=check, look=_files, power=power
    )
    assert operations > 20


def test_the_outcome_of_a_sweep_is_compared(fork_server: ForkServer, fast_path: Path) -> None:
    with pytest.raises(AssertionError, match="operation"):
        sweep(fork_server, Program(TOY, "train", {"steps": 4, "every": 2, "flaw": "keeps the log"}), fast_path)
    assert Outcome([{"step": 1}], {}) != Outcome([{"step": 2}], {})
