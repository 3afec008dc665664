"""Evaluation over several processes: which rows of a batch are real, and how all ranks get to see all rows."""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instar.api.batches import RankShare
from instar.api.containers import PADDING, map_nested
from instar.trainer.parallel.group import gather_tensors
from instar.trainer.runtime import Runtime


def keep_rows(nest: Any, num_rows: int, of: int) -> Any:
    """The first `num_rows` rows of every tensor and array in the nest that has `of` rows; the rest as it is."""
    if num_rows == of:
        return nest

    def cut(leaf: Any) -> Any:
        return leaf[:num_rows] if isinstance(leaf, Tensor | np.ndarray) and leaf.ndim and len(leaf) == of else leaf

    return map_nested(cut, nest)


def gather_rows(nest: Any, runtime: Runtime) -> Any:
    """The rows of all shares of the data in their order, on every rank; -100 fills shorter ones. The identity on one.

    All ranks hand in nests of one structure; their numbers of rows may differ, and may be 0.
    """
    if runtime.data_size == 1:
        return nest
    return map_nested(lambda leaf: _gather(torch.as_tensor(leaf, device=runtime.device), runtime), nest)


def _gather(rows: Tensor, runtime: Runtime) -> Tensor:
    rows = rows.reshape(1) if rows.ndim == 0 else rows
    shape = torch.tensor(rows.shape, device=rows.device)
    sizes = torch.stack(_exchanged(shape, runtime)).tolist()
    widest = [max(column) for column in zip(*sizes, strict=True)]
    is_flag = rows.dtype == torch.bool  # gloo does not exchange them
    padded = rows.new_full(widest, 0 if is_flag else PADDING, dtype=torch.uint8 if is_flag else rows.dtype)
    padded[tuple(slice(size) for size in rows.shape)] = rows
    whole = torch.cat([part[: size[0]] for part, size in zip(_exchanged(padded, runtime), sizes, strict=True)])
    return whole.bool() if is_flag else whole


def _exchanged(mine: Tensor, runtime: Runtime) -> list[Tensor]:
    return gather_tensors(mine, runtime.data_size, runtime.layout.data_group)


@dataclass(frozen=True)
class Share:
    """Which rows of a loader's batches are this rank's own, and not there only so that all ranks have as many."""

    runtime: Runtime
    loader: Any

    @property
    def is_one_of_several(self) -> bool:
        """Whether other ranks read other rows of the same data."""
        return self.runtime.data_size > 1 and bool(getattr(self.loader, "shares_rows", False))

    def real_rows(self, step: int, read: int) -> int:
        """How many of the `read` rows of this rank's batch number `step` are real; they come first."""
        if not self.is_one_of_several:
            return read
        place = step * self.runtime.data_size + self.runtime.data_rank
        batches = self.loader.batches
        if batches.sampler is None and not isinstance(self.loader.dataset, RankShare):
            return read if place < len(batches.batches) else 0  # whole batches are repeated
        return min(max(self._total() - place * read, 0), read)

    def _total(self) -> int:
        """Rows there are; of an iterable data set those that were read so far, one round ahead."""
        dataset = self.loader.dataset
        if isinstance(dataset, RankShare):
            return dataset.num_read if not self.loader.num_workers else sys.maxsize
        return len(self.loader.batches.sampler)


def interleave(tables: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The batches of ranks in the order in which they were read: the first of each rank, the second of each, ..."""
    longest = max(map(len, tables))
    rows = [table[step] for step in range(longest) for table in tables if step < len(table)]
    return np.stack(rows) if rows else tables[0]
