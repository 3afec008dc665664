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
    sizes = [(len(queries), length) for queries, length in zip(places, pack.lengths, strict=True)]
    groups: list[Group] = []
    query_slots: list[NDArray[np.int64]] = []
    key_slots: list[NDArray[np.int64]] = []
    query_places = np.zeros(sum(len(queries) for queries in places), dtype=np.int64)
    query_edges = np.cumsum([0, *(len(queries) for queries in places)])
    query_start = key_start = 0
    for members in _grouped(sizes):
        num_queries = max(sizes[number][0] for number in members)
        num_keys = max(sizes[number][1] for number in members)
        padded = [np.pad(places[number], (0, num_queries - sizes[number][0]), "edge") for number in members]
        for row, number in enumerate(members):
            start = pack.boundaries_D[number]
            slots = np.arange(query_edges[number], query_edges[number + 1])
            query_slots.append(np.pad(slots, (0, num_queries - len(slots)), "edge"))
            key_slots.append(start + np.minimum(np.arange(num_keys), pack.lengths[number] - 1))
            first = query_start + row * num_queries
            query_places[slots] = np.arange(first, first + len(slots))
        lengths_D = np.asarray([pack.lengths[number] for number in members], dtype=np.int64)
        groups.append(Group(len(members), num_queries, num_keys, query_start, key_start, np.stack(padded), lengths_D))
        query_start += len(members) * num_queries
        key_start += len(members) * num_keys
    key_places = query_places if query_is_key else _inverse(key_slots, int(pack.boundaries_D[-1]))
    moved = [_index(query_slots, pack.device), _tensor(query_places, pack.device)]
    keys = moved if query_is_key else [_index(key_slots, pack.device), _tensor(key_places, pack.device)]
    is_identity = query_is_key and np.array_equal(np.concatenate(query_slots), np.arange(len(query_places)))
    if is_identity:
        return Layout(tuple(groups), None, None, None, None)
    return Layout(tuple(groups), moved[0], moved[1], keys[0], keys[1])


def _inverse(slots: list[NDArray[np.int64]], num_tokens: int) -> NDArray[np.int64]:
    """Slot of each token, or -1 for tokens that no group holds."""
    flat = np.concatenate(slots)
    places = np.full(num_tokens, -1, dtype=np.int64)
    places[flat[::-1]] = np.arange(len(flat))[::-1]
    return places


def _index(slots: list[NDArray[np.int64]], device: torch.device) -> Tensor:
    return _tensor(np.concatenate(slots), device)


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
