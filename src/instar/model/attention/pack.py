"""Where the documents of a packed row lie, as attention needs to know it.

Shape letters: T tokens, D documents, M read places, P slots of a padded layout, Q queries, K keys.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.model.attention.rows import Rows

WASTE = 0.3
"""Share of a group's slots that padding may take."""


@dataclass(frozen=True)
class Options:
    """How scores are made and which may be seen."""

    scale: float
    dropout: float
    causal: bool
    window: int | None
    read: bool


@dataclass(frozen=True)
class Group:
    """Documents of near-equal length, padded to one: `count` blocks of `num_queries` by `num_keys`.

    The slots start at `query_start` and `key_start` of the padded layout.
    """

    count: int
    num_queries: int
    num_keys: int
    query_start: int
    key_start: int
    query_places_DQ: NDArray[np.int64]
    """Place of each query in its own document; padding repeats the last."""
    lengths_D: NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """All groups of a row, and the indices that lead from the row to the slots and back; None: no move needed."""

    groups: tuple[Group, ...]
    query_slots_P: Tensor | None
    query_places_M: Tensor | None
    key_slots_P: Tensor | None
    key_places_T: Tensor | None
    _rows: dict[int, tuple[Rows, Rows]] = field(default_factory=dict, repr=False)

    def rows(self, num_heads: int) -> tuple[Rows, Rows]:
        """How queries and keys of so many heads are laid out in blocks."""
        if num_heads not in self._rows:
            sides = (
                (
                    [(group.query_start, group.num_queries) for group in self.groups],
                    self.query_slots_P,
                    self.query_places_M,
                ),
                ([(group.key_start, group.num_keys) for group in self.groups], self.key_slots_P, self.key_places_T),
            )
            counts = [group.count for group in self.groups]
            queries, keys = (Rows(num_heads, counts, *side) for side in sides)
            self._rows[num_heads] = (queries, keys)
        return self._rows[num_heads]


@dataclass(frozen=True)
class Pack:
    """The documents of one packed row; lives for one forward and its backward.

    `read_M` (ascending places in the row) is set where the last layer may leave out what nobody reads.
    """

    lengths: tuple[int, ...]
    device: torch.device
    read_M: Tensor | None = None
    _masks: dict[tuple[int, bool, int | None, bool], Tensor | None] = field(default_factory=dict, repr=False)

    @cached_property
    def boundaries_D(self) -> NDArray[np.int64]:
        """Start of each document, and the end of the last (D + 1 values, on the host)."""
        return np.fromiter(accumulate(self.lengths, initial=0), dtype=np.int64, count=len(self.lengths) + 1)

    @cached_property
    def cumulative_D(self) -> Tensor:
        """The boundaries as int32 on the device, for varlen kernels."""
        return torch.from_numpy(self.boundaries_D.astype(np.int32)).to(self.device, non_blocking=True)

    @cached_property
    def cumulative_read_D(self) -> Tensor:
        """Boundaries of the read places by document, int32 on the device."""
        assert self.read_M is not None
        return torch.searchsorted(self.read_M, self.cumulative_D.to(torch.int64)).to(torch.int32)

    @cached_property
    def read_counts(self) -> tuple[int, ...]:
        """How many places are read in each document."""
        assert self.read_M is not None
        edges_D = np.searchsorted(self.read_M.cpu().numpy(), self.boundaries_D)
        return tuple(np.diff(edges_D).tolist())

    @cached_property
    def all_layout(self) -> Layout:
        """Groups in which every token is a query."""
        places = [np.arange(length) for length in self.lengths]
        return _layout(self, places, query_is_key=True)

    @cached_property
    def read_layout(self) -> Layout:
        """Groups in which only the read places are queries; documents nobody reads are left out."""
        assert self.read_M is not None
        edges = np.cumsum(self.read_counts)[:-1]
        within = np.split(self.read_M.cpu().numpy(), edges)
        places = [read - start for read, start in zip(within, self.boundaries_D[:-1], strict=True)]
        return _layout(self, places, query_is_key=False)

    def read(self, x_TH: Tensor) -> Tensor:
        """The read rows of (1, T, H)."""
        assert self.read_M is not None
        return x_TH.index_select(1, self.read_M)

    def mask(self, number: int, group: Group, *, causal: bool, window: int | None, read: bool) -> Tensor | None:
        """What is added to a group's scores, (D or 1, Q or 1, K) float32, or None where all may be seen."""
        key = (number, causal, window, read)
        if key not in self._masks:
            self._masks[key] = _mask(group, causal=causal, window=window, device=self.device)
        return self._masks[key]


def _grouped(sizes: list[tuple[int, int]]) -> list[list[int]]:
    """Documents by length, longest first, cut where padding would waste too much."""
    order = sorted((number for number, (queries, _) in enumerate(sizes) if queries), key=lambda n: (-sizes[n][1], n))
    groups: list[list[int]] = []
    filled = 0
    for number in order:
        length = sizes[number][1]
        slots = (len(groups[-1]) + 1) * sizes[groups[-1][0]][1] if groups else 0
        if groups and slots - filled - length <= WASTE * slots:
            groups[-1].append(number)
            filled += length
        else:
            groups.append([number])
            filled = length
    return groups


def _layout(pack: Pack, places: list[NDArray[np.int64]], *, query_is_key: bool) -> Layout:
    counts_D = np.fromiter((len(queries) for queries in places), dtype=np.int64, count=len(places))
    lengths_D = np.asarray(pack.lengths, dtype=np.int64)
    members = _grouped(list(zip(counts_D.tolist(), pack.lengths, strict=True)))
    queries = _Slots(members, counts_D, np.cumsum(counts_D) - counts_D)
    keys = _Slots(members, lengths_D, pack.boundaries_D[:-1])
    place_M = np.concatenate(places)[queries.row_P]
    groups = tuple(
        Group(len(chosen), num_queries, num_keys, first_query, first_key, at_DQ, lengths_D[chosen])
        for chosen, num_queries, num_keys, first_query, first_key, at_DQ in zip(
            members, queries.sizes, keys.sizes, queries.starts, keys.starts, queries.cut(place_M), strict=True
        )
    )
    query_places = _inverse(queries.row_P, int(counts_D.sum()))
    if query_is_key and np.array_equal(queries.row_P, np.arange(len(query_places))):
        return Layout(groups, None, None, None, None)
    query_slots_P, query_places_M = _tensor(queries.row_P, pack.device), _tensor(query_places, pack.device)
    if query_is_key:
        return Layout(groups, query_slots_P, query_places_M, query_slots_P, query_places_M)
    key_slots_P = _tensor(keys.row_P, pack.device)
    key_places_T = _tensor(_inverse(keys.row_P, int(pack.boundaries_D[-1])), pack.device)
    return Layout(groups, query_slots_P, query_places_M, key_slots_P, key_places_T)


class _Slots:
    """The padded layout of one side: which row stands in each slot; padding repeats a document's last."""

    def __init__(self, members: list[list[int]], counts_D: NDArray[np.int64], firsts_D: NDArray[np.int64]) -> None:
        self._members = members
        self.sizes = [int(counts_D[chosen].max()) for chosen in members]
        totals = [len(chosen) * size for chosen, size in zip(members, self.sizes, strict=True)]
        self.starts = [total - last for total, last in zip(accumulate(totals), totals, strict=True)]
        order_D = np.concatenate(members)
        widths_D = np.repeat(self.sizes, [len(chosen) for chosen in members])
        within_P = np.arange(sum(totals)) - np.repeat(np.cumsum(widths_D) - widths_D, widths_D)
        last_P = np.repeat(counts_D[order_D] - 1, widths_D)
        self.row_P = np.repeat(firsts_D[order_D], widths_D) + np.minimum(within_P, last_P)

    def cut(self, values_P: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The values of each group's slots, (documents, slots of one)."""
        return [
            values_P[start : start + len(chosen) * size].reshape(len(chosen), size)
            for chosen, size, start in zip(self._members, self.sizes, self.starts, strict=True)
        ]


def _inverse(row_P: NDArray[np.int64], num_rows: int) -> NDArray[np.int64]:
    """First slot of each row, or -1 for rows that no group holds."""
    places = np.full(num_rows, -1, dtype=np.int64)
    places[row_P[::-1]] = np.arange(len(row_P))[::-1]
    return places


def _tensor(values: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, non_blocking=True)


def _mask(group: Group, *, causal: bool, window: int | None, device: torch.device) -> Tensor | None:
    keys_K = np.arange(group.num_keys)
    hidden: NDArray[np.bool_] | None = None
    if (group.lengths_D < group.num_keys).any():
        hidden = keys_K[None, None, :] >= group.lengths_D[:, None, None]
    window = None if window is None or window >= group.num_keys else window
    if causal or window is not None:
        distance = group.query_places_DQ[:, :, None] - keys_K[None, None, :]
        if (group.query_places_DQ == group.query_places_DQ[:1]).all():
            distance = distance[:1]
        far = distance < 0 if causal else np.zeros_like(distance, dtype=bool)
        if window is not None:
            far = far | (np.abs(distance) >= window)
        hidden = far if hidden is None else hidden | far
    if hidden is None:
        return None
    return torch.from_numpy(np.where(hidden, np.float32(-np.inf), np.float32(0))).to(device, non_blocking=True)
