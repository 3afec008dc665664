"""The order of a weighted mixture: which sample comes at each number, as a function of the seed and the number alone.

Letters: A samples asked for, P parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import ConfigError
from instar.core.seeds import derive
from instar.data.permutation import permute

Ints = NDArray[np.int64]
BLOCK = 1000
"""Samples in which every part has its share exactly, rounded to whole samples."""


@dataclass(frozen=True)
class Mixing:
    """Samples `bounds[p]` to `bounds[p + 1]` are those of part p, and `counts[p]` of every BLOCK come from there."""

    bounds: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, weights: Sequence[float], bounds: Sequence[int]) -> "Mixing":
        """Counts by largest remainder; ConfigError for a part without samples, or without a sample in a BLOCK."""
        share_P = np.asarray(weights, dtype=np.float64) / sum(weights) * BLOCK
        count_P = np.floor(share_P).astype(np.int64)
        first = np.argsort(-(share_P - count_P), kind="stable")[: BLOCK - int(count_P.sum())]
        count_P[first] += 1
        sizes = np.diff(np.asarray(bounds))
        problems = []
        for number, (weight, count, size) in enumerate(zip(weights, count_P.tolist(), sizes.tolist(), strict=True)):
            if not size:
                problems.append(f"data.train.sources.{number}: has no sample to train on")
            if not count:
                problems.append(
                    f"data.train.sources.{number}.weight: {weight} is less than one sample in {BLOCK:,} of the mixture"
                    "; raise it, or leave the source out"
                )
        if problems:
            raise ConfigError(problems)
        return cls(tuple(map(int, bounds)), tuple(count_P.tolist()))

    def order(self, seed: int, first: int, last: int) -> tuple[Ints, Ints]:
        """(sample, pass through its part) of the sample numbers `first` to `last` (not included) of the run."""
        number_A = np.arange(first, last, dtype=np.int64)
        part_A, draw_A = np.empty_like(number_A), np.empty_like(number_A)
        for block in range(first // BLOCK, -(-last // BLOCK)):
            is_here = number_A // BLOCK == block
            part_A[is_here], draw_A[is_here] = (row[number_A[is_here] % BLOCK] for row in self._block(seed, block))
        index_A, pass_A = np.empty_like(number_A), np.empty_like(number_A)
        for part in np.unique(part_A).tolist():
            size = self.bounds[part + 1] - self.bounds[part]
            for number in np.unique(draw_A[part_A == part] // size).tolist():
                chosen = (part_A == part) & (draw_A // size == number)
                order = permute(draw_A[chosen] % size, size, derive(seed, "mixture", part, number))
                index_A[chosen], pass_A[chosen] = self.bounds[part] + order, number
        return index_A, pass_A

    def _block(self, seed: int, block: int) -> tuple[Ints, Ints]:
        """(part, how many samples of that part came before) of each sample of a block."""
        counts_P = np.asarray(self.counts, dtype=np.int64)
        order = np.argsort(permute(np.arange(BLOCK), BLOCK, derive(seed, "mixture order", block)))
        part = np.empty(BLOCK, dtype=np.int64)
        draw = np.empty(BLOCK, dtype=np.int64)
        firsts = np.cumsum(counts_P) - counts_P
        for number, (low, count) in enumerate(zip(firsts.tolist(), self.counts, strict=True)):
            mine = np.sort(order[low : low + count])
            part[mine] = number
            draw[mine] = block * count + np.arange(count)
        return part, draw
