"""A file that was written tensor by tensor is the file that was written at once."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instar.checkpoint.sharded import TensorFile, in_order, write_one_by_one
from instar.checkpoint.tensors import write_tensors
from instar.core.errors import CheckpointError

DTYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8),
)
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
named = st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(st.sampled_from(DTYPES), shapes), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(described=named)
def test_byte_for_byte(described: dict, tmp_path: Path) -> None:
    described.pop("__metadata__", None)
    tensors = {name: (torch.randn(shape) * 9).to(dtype) for name, (dtype, shape) in described.items()}
    write_tensors(tmp_path / "whole", tensors)
    write_one_by_one(tmp_path / "parts", tensors, (tensors[name] for name in in_order(tensors)))
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    read = TensorFile(tmp_path / "parts")
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_values_are_what_was_announced(tmp_path: Path) -> None:
    like = {"a": torch.zeros(2), "b": torch.zeros(3)}
    for wrong in ([torch.zeros(2)], [torch.zeros(2), torch.zeros(2)], [torch.zeros(2), torch.zeros(3).double()]):
        with pytest.raises(ValueError, match=r"b: wanted|shorter"):
            write_one_by_one(tmp_path / "file", like, wrong)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"a": torch.ones(3), "b": torch.ones(2, 2)})
    file = TensorFile(tmp_path / "file")
    mine = file["a"]
    (tmp_path / "file").unlink()
    assert mine.tolist() == [1, 1, 1]
    with pytest.raises(KeyError):
        file["c"]


@pytest.mark.parametrize("content", [None, b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"x" * 64])
def test_damaged_files_are_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(CheckpointError, match="file: is not a whole safetensors file"):
        TensorFile(tmp_path / "file")
