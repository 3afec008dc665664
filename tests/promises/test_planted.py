"""A test of the tests: the sound trainer passes each check, and each planted flaw is found by one."""

from collections.abc import Callable
from pathlib import Path

import planted
import pytest
from runs import run

FLAWS = tuple(planted.flaws())
CHECKS = tuple({flaw.check.__name__: flaw.check for flaw in FLAWS}.values())
SMALL = ("train.max_norm=0.2", "task.mask_share=0.8")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_sound_trainer_passes(check: Callable, shrunk: Callable, tmp_path: Path) -> None:
    small = shrunk("text-characters").but(*SMALL)
    run(small, tmp_path / "sound")
    assert check(small, tmp_path) == ""


@pytest.mark.parametrize("flaw", FLAWS, ids=lambda flaw: flaw.plant.__name__)
def test_a_planted_flaw_is_found(
    flaw: planted.Flaw, shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = shrunk("text-characters").but(*SMALL)
    if flaw.check is planted.is_as_recorded:
        run(small, tmp_path / "sound")
    with monkeypatch.context() as patch:
        flaw.plant(patch)
        try:
            found = flaw.check(small, tmp_path)
        except Exception as error:  # noqa: BLE001 (a flaw may also show as a fault)
            found = repr(error)
    assert found != ""
