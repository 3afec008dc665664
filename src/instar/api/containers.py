"""Nests of tensors (lists, tuples, dicts, model outputs), and the pile that an evaluation grows, linear in time.

B rows of a batch; anything may follow it in a shape.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PADDING = -100
"""What fills rows that are shorter than the longest one; the target that losses pass over."""


def map_nested(function: Callable[[Any], Any], nest: Any) -> Any:
    """The same nest with `function` applied to each leaf; None stays None."""
    if nest is None:
        return None
    if isinstance(nest, Mapping):
        return type(nest)({key: map_nested(function, value) for key, value in nest.items()})  # type: ignore[call-arg]
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*(map_nested(function, value) for value in nest))
    if isinstance(nest, list | tuple):
        return type(nest)(map_nested(function, value) for value in nest)
    return function(nest)


def detach(nest: Any) -> Any:
    """The nest without its graph; what is no tensor stays as it is."""
    return map_nested(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, nest)


def to_numpy(nest: Any) -> Any:
    """The nest in host memory as NumPy arrays, bfloat16 as float32; TypeError for what is neither tensor nor number."""
    return map_nested(_array, nest)


def _array(leaf: Any) -> NDArray[Any]:
    if isinstance(leaf, Tensor):
        leaf = leaf.detach().cpu()
        return np.asarray((leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy())
    if isinstance(leaf, np.ndarray | np.generic | int | float | bool):
        return np.asarray(leaf)
    raise TypeError(
        f"an output of the model is of type {type(leaf).__name__}, and only tensors (in lists, tuples and dicts) can "
        "be gathered; name its key in `ignore_keys`, or in `keys_to_ignore_at_inference` of the model's config"
    )


def find_batch_size(nest: Any) -> int | None:
    """The rows of the first tensor or array in the nest; None where there is none with a dimension."""
    if isinstance(nest, Tensor | np.ndarray):
        return int(nest.shape[0]) if nest.ndim else None
    values: Any = nest.values() if isinstance(nest, Mapping) else nest if isinstance(nest, list | tuple) else ()
    return next((rows for rows in map(find_batch_size, values) if rows is not None), None)


class Pile:
    """Batches of one nest, put one upon another and taken out as one nest of arrays, in time linear in their size.

    The arrays are allocated once when the number of rows is known and all batches have one shape, and joined once
    at the end otherwise; rows that are shorter than the longest are filled with -100. Batches wait on their device
    until `batches_on_device` of them are there. With `join=False` the batches come out as a list.
    """

    def __init__(self, *, num_rows: int | None = None, batches_on_device: int = 1, join: bool = True) -> None:
        self._num_rows = num_rows
        self._batches_on_device = batches_on_device
        self._join = join
        self._waiting: list[Any] = []
        self._batches: list[Any] = []
        self._columns: Any = None

    def add(self, nest: Any) -> None:
        """One more batch; the caller may not change it afterwards."""
        self._waiting.append(nest)
        if len(self._waiting) >= self._batches_on_device:
            self._settle()

    def _settle(self) -> None:
        for nest in self._waiting:
            arrays = to_numpy(nest)
            if not self._join:
                self._batches.append(arrays)
            elif self._columns is None:
                self._columns = map_nested(lambda array: _Column(array, self._num_rows), arrays)
            else:
                _append(self._columns, arrays)
        self._waiting = []

    def take(self) -> Any:
        """Everything that was added: a nest of arrays, or a list of nests; None when nothing was."""
        self._settle()
        if not self._join:
            return self._batches or None
        return map_nested(lambda column: column.array(), self._columns)


def _append(columns: Any, nest: Any) -> None:
    if isinstance(columns, _Column):
        columns.append(nest)
    elif columns is None or nest is None:
        if columns is not nest:
            raise TypeError("an output of the model is None for some batches and a tensor for others")
    elif type(columns) is not type(nest) or len(columns) != len(nest):
        raise TypeError(f"batches differ in structure: {_outline(columns)} before, and {_outline(nest)} now")
    elif isinstance(columns, Mapping):
        for key, column in columns.items():
            _append(column, nest[key])
    else:
        for column, value in zip(columns, nest, strict=True):
            _append(column, value)


def _outline(nest: Any) -> str:
    return f"{type(nest).__name__} of {len(nest)}" if isinstance(nest, Sequence | Mapping) else type(nest).__name__


class _Column:
    """One array that grows by rows."""

    def __init__(self, first: NDArray[Any], num_rows: int | None) -> None:
        first = np.atleast_1d(first)
        self._whole: NDArray[Any] | None = None
        self._filled = 0
        self._parts: list[NDArray[Any]] = []
        if num_rows is not None and num_rows > len(first):
            self._whole = np.empty((num_rows, *first.shape[1:]), first.dtype)
        self.append(first)

    def append(self, rows: NDArray[Any]) -> None:
        rows = np.atleast_1d(rows)
        whole = self._whole
        if whole is not None:
            end = self._filled + len(rows)
            if rows.shape[1:] == whole.shape[1:] and rows.dtype == whole.dtype and end <= len(whole):
                whole[self._filled : end] = rows
                self._filled = end
                return
            self._parts = [whole[: self._filled]]
            self._whole = None
        self._parts.append(rows)

    def array(self) -> NDArray[Any]:
        if self._whole is not None:
            return self._whole[: self._filled]
        return stack_rows(self._parts)


def stack_rows(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All rows in one array; -100 fills what is shorter in any later dimension. ValueError if their ranks differ."""
    if len(parts) == 1:
        return parts[0]
    shapes = [part.shape[1:] for part in parts]
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(f"batches cannot be joined: their shapes are {sorted({part.shape for part in parts})}")
    if len(set(shapes)) == 1:
        return np.concatenate(parts)
    widest = tuple(map(max, zip(*shapes, strict=True)))
    dtype = np.result_type(*parts, *([np.int8] if parts[0].dtype.kind in "bu" else []))  # -100 has to fit
    joined = np.full((sum(map(len, parts)), *widest), PADDING, dtype)
    first = 0
    for part in parts:
        joined[(slice(first, first + len(part)), *(slice(size) for size in part.shape[1:]))] = part
        first += len(part)
    return joined
