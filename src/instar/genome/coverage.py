"""Which bases lie in which class of features, and sums of a track over them, in memory that no class adds to.

Letters: F features, K classes, B bases, P ends of features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Coverage:
    """The bases of each class on one sequence; a base in several features of a class counts once."""

    def __init__(self, kind_F: Ints, start_F: Ints, end_F: Ints, *, num_kinds: int, size: int) -> None:
        """Features [start, end) of the classes 0 to `num_kinds` - 1, in any order, within `size` bases."""
        self._num_kinds, self.size = num_kinds, size
        there = start_F < end_F
        kind, start, end = kind_F[there], start_F[there], end_F[there]
        # Each class has a line of its own, one after the other, so that all are joined at once.
        first, last = joined(start + kind * (size + 1), end + kind * (size + 1))
        self._kind = first // (size + 1)
        self._start, self._end = first - self._kind * (size + 1), last - self._kind * (size + 1)
        self.bases_K: Ints = self._by_kind(self._end - self._start).astype(np.int64)
        """(K,) bases in each class."""

    def sums(self, values_B: NDArray[Any]) -> tuple[Ints, NDArray[np.float64]]:
        """(K,) how many values of each class are known (not NaN), and (K,) their sum."""
        known_B = ~np.isnan(values_B)
        known = self._difference(known_B, np.int64)
        total = self._difference(np.where(known_B, values_B, 0), np.float64)
        return self._by_kind(known).astype(np.int64), self._by_kind(total)

    def _difference(self, values_B: NDArray[Any], dtype: type) -> NDArray[Any]:
        """Sum over each joined stretch, from one pass over the bases."""
        points_P = np.unique(np.concatenate([np.zeros(1, np.int64), self._start, self._end]))
        inside = points_P[points_P < self.size]
        until_P: NDArray[Any] = np.zeros(len(points_P) + 1, dtype=dtype)
        if len(inside):
            until_P[1 : len(inside) + 1] = np.cumsum(np.add.reduceat(values_B, inside, dtype=dtype))
        high, low = (until_P[np.searchsorted(points_P, ends)] for ends in (self._end, self._start))
        found: NDArray[Any] = high - low
        return found

    def _by_kind(self, amounts: NDArray[Any]) -> NDArray[np.float64]:
        return np.bincount(self._kind, weights=amounts, minlength=self._num_kinds).astype(np.float64)


def joined(start_F: Ints, end_F: Ints) -> tuple[Ints, Ints]:
    """(starts, ends) of the union of stretches, in order; those that touch are one."""
    if not len(start_F):
        return start_F, end_F
    order = np.argsort(start_F, kind="stable")
    starts, ends = start_F[order], np.maximum.accumulate(end_F[order])
    begins = np.concatenate([[True], starts[1:] > ends[:-1]])
    return starts[begins], ends[np.concatenate([begins[1:], [True]])]
