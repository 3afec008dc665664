"""Small files and logs: exact, atomic, and deaf to torn ends."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instar.checkpoint.tensors import read_tensors, write_tensors
from instar.core.errors import CheckpointError, DataError, InstarError
from instar.core.files.json_files import from_json, read_json, read_lines, to_json, write_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_values_come_back_exactly(value: object) -> None:
    assert repr(from_json(to_json(value))) == repr(json.loads(json.dumps(value, sort_keys=True)))
    assert to_json(from_json(to_json(value))) == to_json(value)


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}, {1: 2}, object()])
def test_what_json_cannot_say_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InstarError, match=r"state\.json"):
        write_json(tmp_path / "state.json", value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state\.json"):
        read_json(tmp_path / "state.json")


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), max_size=6), st.integers(0, 200))
def test_a_log_torn_anywhere_keeps_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]], cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()[:cut]
    path.write_bytes(content)
    whole = rows[: content.count(b"\n")]
    assert read_lines(path) == whole


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "metrics.jsonl") == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", ["nonsense", "[1]", "NaN", '{"a": 1}{"b": 2}'])
def test_a_bad_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 2}}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: wanted one JSON object"):
        read_lines(path)


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    weight = torch.randn(6, 4)
    tensors = {
        "weight": weight,
        "turned": weight.t(),
        "row": weight[2],
        "tied": weight,
        "half": weight.to(torch.bfloat16),
        "count": torch.tensor(7),
        "none": torch.zeros(0, 3),
        "flags": weight > 0,
        "odd": torch.tensor([float("nan"), -0.0, float("inf")]),
        "learned": weight.clone().requires_grad_(),
    }
    write_tensors(tmp_path / "a.safetensors", tensors)
    found = read_tensors(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    (tmp_path / "a.safetensors").write_bytes(b"")  # what was read does not hang on the file
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        same = found[name].contiguous().view(torch.uint8) if tensor.dim() else found[name]
        assert torch.equal(same, tensor.detach().contiguous().view(torch.uint8) if tensor.dim() else tensor), name
