"""Evaluation over several processes: which rows of a batch are real, and how all ranks get to see all rows.

R ranks, B rows of a batch.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from instar.api.containers import PADDING, map_nested


def keep_rows(nest: Any, num_rows: int, of: int) -> Any:
    """The first `num_rows` rows of every tensor and array in the nest that has `of` rows; the rest as it is."""
    if num_rows == of:
        return nest

    def cut(leaf: Any) -> Any:
        return leaf[:num_rows] if isinstance(leaf, Tensor | np.ndarray) and leaf.ndim and len(leaf) == of else leaf

    return map_nested(cut, nest)


def gather_rows(nest: Any, device: torch.device, world_size: int) -> Any:
    """The rows of all ranks in the order of ranks, on every rank; -100 fills shorter ones. The identity on one.

    All ranks hand in nests of one structure; their numbers of rows may differ, and may be 0.
    """
    if world_size == 1:
        return nest
    return map_nested(lambda leaf: _gather(torch.atleast_1d(torch.as_tensor(leaf, device=device)), world_size), nest)


def _gather(rows: Tensor, world_size: int) -> Tensor:
    shape = torch.tensor(rows.shape, device=rows.device)
    shapes = [torch.empty_like(shape) for _ in range(world_size)]
    distributed.all_gather(shapes, shape)
    sizes = torch.stack(shapes).tolist()
    widest = [max(column) for column in zip(*sizes, strict=True)]
    is_flag = rows.dtype == torch.bool  # gloo does not exchange them
    padded = rows.new_full(widest, 0 if is_flag else PADDING, dtype=torch.uint8 if is_flag else rows.dtype)
    padded[tuple(slice(size) for size in rows.shape)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size)]
    distributed.all_gather(parts, padded)
    whole = torch.cat([part[: size[0]] for part, size in zip(parts, sizes, strict=True)])
    return whole.bool() if is_flag else whole


def interleave(tables: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The batches of ranks in the order in which they were read: the first of each rank, the second of each, ..."""
    longest = max(map(len, tables))
    rows = [table[step] for step in range(longest) for table in tables if step < len(table)]
    return np.stack(rows) if rows else tables[0]
