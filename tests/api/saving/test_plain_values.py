"""Nothing is unpickled: values, optimizer states and random states are read as plain data."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.trainer_utils import IntervalStrategy

from instar.api.checkpoints.plain import as_plain, read_values, write_values
from instar.core.errors import CheckpointError
from tests.api.saving_parts import make

# ---- nothing is unpickled ----


class Code:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("/tmp/instar-was-here",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state": Code()}, tmp_path / "optimizer.pt")
    with pytest.raises(CheckpointError, match="cannot be read as tensors and plain values"):
        read_values(tmp_path / "optimizer.pt")
    assert not Path("/tmp/instar-was-here").exists()
    with pytest.raises(CheckpointError, match="is missing"):
        read_values(tmp_path / "none.pt")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_plain_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("values") / "scheduler.pt"
    write_values(path, value)
    back = read_values(path)
    assert back == value
    assert repr(back) == repr(value), "True is not 1"


def test_values_that_are_almost_plain_become_plain() -> None:
    given = {"a": np.float32(0.5), "b": IntervalStrategy.STEPS, "c": np.arange(3), "d": Path("x"), 1: {2}, "e": (True,)}
    found = as_plain(given)
    assert found["c"].tolist() == [0, 1, 2]
    del found["c"]
    assert repr(found) == repr({"a": 0.5, "b": "steps", "d": "x", 1: [2], "e": (True,)})
    with pytest.raises(CheckpointError, match=r"state: groups: is a builtins\.function"):
        as_plain({"groups": lambda: None}, "state")


# ---- random states ----


def draws() -> list[Any]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_generators_are_put_back_from_a_folder_that_is_made(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    place = tmp_path / "new" / "folder"
    trainer._save_rng_state(str(place))
    before = draws()
    assert draws() != before
    trainer._load_rng_state(str(place))
    assert draws() == before


def test_random_states_of_transformers_are_read_and_it_reads_ours(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    now = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    torch.save(now, tmp_path / "rng_state.pth")  # as its Trainer does
    before = draws()
    trainer._load_rng_state(str(tmp_path))
    assert draws() == before
    trainer._load_rng_state(str(tmp_path))
    trainer._save_rng_state(str(tmp_path))
    ours = torch.load(tmp_path / "rng_state.pth", weights_only=True)
    before = draws()
    random.setstate(ours["python"])
    np.random.set_state(ours["numpy"])
    torch.random.set_rng_state(ours["cpu"])
    assert draws() == before


def test_a_folder_without_random_states_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path)
    trainer._load_rng_state(None)
    trainer._load_rng_state(str(tmp_path))
    assert "generators stay as they are" in caplog.text
