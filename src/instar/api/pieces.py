"""Micro-batches in smaller pieces, for steps that memory does not suffice for."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_NOT_ENOUGH = ("out of memory", "DefaultCPUAllocator: can't allocate memory", "CUDNN_STATUS_NOT_SUPPORTED")


def is_out_of_memory(error: BaseException) -> bool:
    """True for what PyTorch raises when a device has no more memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NOT_ENOUGH)


def num_rows(batch: Any) -> int:
    """Samples in a batch: the length of the first tensor found in it; 1 where there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    values = batch.values() if hasattr(batch, "values") else batch if isinstance(batch, list | tuple) else ()
    return next((num_rows(value) for value in values if isinstance(value, Tensor) and value.ndim), 1)


def cut(batch: Any, parts: int) -> list[Any]:
    """The batch in at most `parts` pieces of about as many samples, in order; what has no samples goes with each."""
    rows = num_rows(batch)
    size = -(-rows // parts)
    return [_rows(batch, first, min(first + size, rows), rows) for first in range(0, rows, size)]


def first_rows(batch: Any, count: int) -> Any:
    """The first samples of a batch."""
    rows = num_rows(batch)
    return _rows(batch, 0, min(count, rows), rows)


def _rows(value: Any, first: int, last: int, rows: int) -> Any:
    if isinstance(value, Tensor):
        return value[first:last] if value.ndim and len(value) == rows else value
    if isinstance(value, Mapping) or (hasattr(value, "items") and hasattr(value, "keys")):
        return type(value)({name: _rows(part, first, last, rows) for name, part in value.items()})
    if isinstance(value, list) and len(value) == rows and not any(isinstance(part, Tensor) for part in value):
        return value[first:last]
    if isinstance(value, list | tuple):
        return type(value)(_rows(part, first, last, rows) for part in value)
    return value
