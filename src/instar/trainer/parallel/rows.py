"""Rows of numbers from process to process, as bytes: nothing is pickled."""

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from instar.trainer.parallel.group import gather_tensors

_MOST_AXES = 6
_TYPE_BYTES = 8
_HEAD = 1 + _MOST_AXES + _TYPE_BYTES


def gather_rows(
    rows: NDArray[Any], size: int, group: distributed.ProcessGroup | None, device: torch.device
) -> NDArray[Any]:
    """The rows of `size` processes, uneven as they may be, in the order of ranks; a process may have none.

    TypeError for values that are no numbers or truth values.
    """
    if rows.dtype.kind not in "biufc":
        raise TypeError(f"only numbers go from process to process; got {rows.dtype}")
    heads = [head.tolist() for head in gather_tensors(torch.tensor(_head(rows), device=device), size, group)]
    descriptions = [_described(head) for head in heads]
    longest = max(dtype.itemsize * prod(shape) for dtype, shape in descriptions)
    flat = torch.zeros(longest, dtype=torch.uint8, device=device)
    flat[: rows.nbytes] = torch.from_numpy(np.frombuffer(rows.tobytes(), dtype=np.uint8).copy()).to(device)
    parts = [
        np.frombuffer(part.cpu().numpy().tobytes()[: dtype.itemsize * prod(shape)], dtype=dtype).reshape(shape)
        for part, (dtype, shape) in zip(gather_tensors(flat, size, group), descriptions, strict=True)
    ]
    filled = [part for part in parts if len(part)]
    return np.concatenate(filled) if filled else rows


def _head(rows: NDArray[Any]) -> list[int]:
    """Number of axes, their lengths, and the letters of the type."""
    if not 1 <= rows.ndim <= _MOST_AXES:
        raise ValueError(f"wanted 1 to {_MOST_AXES} axes; got {rows.ndim}")
    letters = rows.dtype.str.encode("ascii").ljust(_TYPE_BYTES)
    return [rows.ndim, *rows.shape, *[0] * (_MOST_AXES - rows.ndim), *letters]


def _described(head: list[int]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    if len(head) != _HEAD:
        raise ValueError(f"wanted {_HEAD} numbers; got {len(head)}")
    letters = bytes(head[1 + _MOST_AXES :]).decode("ascii").strip()
    return np.dtype(letters), tuple(head[1 : 1 + head[0]])
