"""Tensors that are written and read one at a time: a file may hold more than fits into memory.

The same safetensors files as everywhere, byte for byte, so that nobody can tell how many processes had the parts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors
from instar.core.limits import raise_if_limited

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_WIDEST_FIRST = ("I64", "F64", "F32", "I32", "BF16", "F16", "I16", "I8", "U8", "BOOL")
_ALIGNED = 8


def in_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names in the order in which a file has their tensors: the widest types first, then by name."""
    return sorted(tensors, key=lambda name: (_WIDEST_FIRST.index(_NAMES[tensors[name].dtype]), name))


def write_one_by_one(path: Path, like: Mapping[str, Tensor], values: Iterable[Tensor]) -> None:
    """A safetensors file of tensors of the names, types and shapes of `like`; `values` come in the order of `in_order`.

    One value need exist at a time. DiskError names the bytes needed and free; ValueError for a value of another shape.
    """
    names = in_order(like)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in names:
        start, end = end, end + prod(like[name].shape) * like[name].element_size()
        header[name] = {
            "dtype": _NAMES[like[name].dtype],
            "shape": list(like[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with disk_errors(path, needed=_ALIGNED + len(text) + end), path.open("wb") as file:
        file.write(len(text).to_bytes(_ALIGNED, "little"))
        file.write(text)
        for name, value in zip(names, values, strict=True):
            if value.shape != like[name].shape or value.dtype != like[name].dtype:
                raise ValueError(
                    f"{name}: wanted {like[name].dtype} {tuple(like[name].shape)}; got {tuple(value.shape)}"
                )
            plain = value.detach().cpu().contiguous().reshape(-1)
            file.write(plain.view(torch.uint8).numpy().data)


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a safetensors file by name, each read when it is asked for, into memory of its own.

    CheckpointError names a missing or damaged file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with safe_open(path, framework="pt") as file:
                self._names = tuple(file.keys())
        except (OSError, SafetensorError) as error:
            raise_if_limited(error)
            raise CheckpointError(f"{path}: is not a whole safetensors file: {error}") from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with safe_open(self.path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor.clone()  # what stays mapped could change while the run goes on

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
