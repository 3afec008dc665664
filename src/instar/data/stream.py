"""The order of training: whole optimizer steps, each a function of the seed and its first sample's number.

Letters: A samples looked ahead, D samples of a step.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import ConfigError
from instar.core.seeds import derive
from instar.data.batch import Batch
from instar.data.mixing import Mixing
from instar.data.permutation import permute

_AHEAD = 2048
Ints = NDArray[np.int64]


class SampleSet(Protocol):
    """What a stream needs of its samples."""

    def __len__(self) -> int: ...

    def lengths(self, index_N: NDArray[np.integer]) -> Ints:
        """Tokens of each sample."""
        ...

    def gather(self, index_D: NDArray[np.integer], epochs_D: NDArray[np.integer]) -> Batch:
        """The samples as one packed batch."""
        ...


class Stream:
    """Endless shuffled passes over a set of samples, cut into optimizer steps.

    A sample's global number is epoch * len(samples) + its index in that epoch's order. A step holds
    `batch_samples` samples, or as many as fit into `batch_tokens` (a longer sample comes alone); steps
    cross from one epoch into the next, and nothing is dropped. Memory does not grow with the set.
    With `mixing` the samples come in its order, and an epoch of a sample is a pass through its part.
    """

    def __init__(
        self,
        samples: SampleSet,
        *,
        seed: int,
        batch_tokens: int | None = None,
        batch_samples: int | None = None,
        max_samples: int | None = None,
        mixing: Mixing | None = None,
    ) -> None:
        problems = []
        if (batch_tokens is None) == (batch_samples is None):
            problems.append("give one of batch_tokens and batch_samples")
        if batch_tokens is not None and batch_tokens < 1:
            problems.append(f"batch_tokens: wanted 1 or more; got {batch_tokens}")
        if batch_samples is not None and batch_samples < 1:
            problems.append(f"batch_samples: wanted 1 or more; got {batch_samples}")
        if max_samples is not None and max_samples < 1:
            problems.append(f"the budget gives {max_samples} samples; wanted 1 or more")
        if len(samples) == 0:
            problems.append("there are no samples to train on")
        if problems:
            raise ConfigError(problems)
        self.samples, self.seed, self.max_samples = samples, seed, max_samples
        self.batch_tokens, self.batch_samples = batch_tokens, batch_samples
        self.mixing = mixing

    def order(self, first: int, last: int) -> tuple[Ints, Ints]:
        """(sample, epoch) of the global sample numbers `first` to `last` (not included)."""
        if self.mixing is not None:
            return self.mixing.order(self.seed, first, last)
        size = len(self.samples)
        epoch_A, rank_A = np.divmod(np.arange(first, last, dtype=np.int64), size)
        index_A = np.empty_like(rank_A)
        for epoch in np.unique(epoch_A).tolist():
            chosen = epoch_A == epoch
            index_A[chosen] = permute(rank_A[chosen], size, derive(self.seed, "shuffle", epoch))
        return index_A, epoch_A

    def steps(self, start: int = 0) -> Iterator[Batch]:
        """Steps from global sample number `start`, the documents of each longest first (stable).

        A step of len(batch) samples ends at `start + len(batch)`, and streaming from there gives the
        same steps that would have followed. Ends exactly at `max_samples`, else never.
        """
        index_A, epoch_A = self.order(start, start)
        length_A = np.empty(0, dtype=np.int64)
        ahead = start
        while True:
            taken = self._fit(length_A)
            if taken == len(index_A) and not self._is_end(ahead):
                last = ahead + max(_AHEAD, self.batch_samples or 0)
                last = last if self.max_samples is None else min(last, self.max_samples)
                more, epochs = self.order(ahead, last)
                index_A, epoch_A = np.concatenate([index_A, more]), np.concatenate([epoch_A, epochs])
                length_A = np.concatenate([length_A, self.samples.lengths(more)])
                ahead = last
                continue
            if not taken:
                return
            sorted_D = np.argsort(-length_A[:taken], kind="stable")
            yield self.samples.gather(index_A[:taken][sorted_D], epoch_A[:taken][sorted_D])
            index_A, epoch_A, length_A = index_A[taken:], epoch_A[taken:], length_A[taken:]

    def _is_end(self, number: int) -> bool:
        return self.max_samples is not None and number >= self.max_samples

    def _fit(self, length_A: Ints) -> int:
        """How many of the next samples make a step."""
        if self.batch_tokens is None:
            return min(len(length_A), self.batch_samples or 0)
        fitting = int(np.searchsorted(np.cumsum(length_A), self.batch_tokens, side="right"))
        return min(len(length_A), max(1, fitting))
