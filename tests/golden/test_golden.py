"""Every recipe's trajectory is the recorded one."""

import json
from pathlib import Path

import numpy as np
import pytest
import record
from recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_trajectory(name: str, tmp_path: Path) -> None:
    file = record.HERE / f"{name}.json"
    assert file.is_file(), f"{name} has no record; look at its curve, then: make golden"
    wanted, found = json.loads(file.read_text()), record.trajectory(name, tmp_path)
    assert found["recipe"] == wanted["recipe"], (
        f"the recipe {name} or a default changed; look at its curve, then: make golden"
    )
    assert found["tokens"] == wanted["tokens"]
    assert found["lr"] == pytest.approx(wanted["lr"], rel=1e-12)
    for key in ("loss", "eval_loss"):
        apart = np.abs(np.array(found[key]) / np.array(wanted[key]) - 1)
        assert apart.max() <= record.RTOL, f"{key}: apart by {apart.max():.1e} at most, {apart.mean():.1e} on average"


def test_no_record_without_a_recipe() -> None:
    assert {path.stem for path in record.HERE.glob("*.json")} <= set(RECIPES)


def test_recording_refuses_uncommitted_code(monkeypatch: pytest.MonkeyPatch) -> None:
    class Status:
        stdout = " M src/instar/trainer/step.py\n"

    monkeypatch.setattr(record.subprocess, "run", lambda *_, **__: Status)
    with pytest.raises(SystemExit, match=r"commit these first"):
        record.refuse_dirty()
