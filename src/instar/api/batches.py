"""Which samples a batch holds, as a function of (seed, epoch, number): nothing has to be replayed to go on.

Random draws of datasets and collators follow the batch, too: the list of indices that a worker is sent seeds the
generators of that worker when it begins to fetch.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, RandomSampler, Sampler, SequentialSampler

from instar.core import seeds
from instar.trainer.seeding import seed_everything


class Numbered(list[Any]):
    """Indices of a batch; whoever goes through them draws what this batch draws, in any process."""

    __slots__ = ("seed",)

    def __init__(self, indices: Iterable[Any], seed: int) -> None:
        super().__init__(indices)
        self.seed = seed

    def __iter__(self) -> Iterator[Any]:
        seed_everything(self.seed)
        return super().__iter__()

    def __reduce__(self) -> tuple[Any, ...]:
        return Numbered, (self[:], self.seed)  # a slice is read without seeding the process that sends it


class Batches:
    """The batches of this rank, epoch by epoch, from any batch on; what a `DataLoader` asks for indices."""

    def __init__(self, batches: Any, sampler: Any, *, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """`batches` are `BatchSampler`-like; `sampler` is where they take their order from, None if from nowhere."""
        self.batches = batches
        self.sampler = sampler
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first = 0
        """The batch to begin with, counted in this rank's batches."""

    def __len__(self) -> int:
        whole, rest = divmod(len(self.batches), self.world_size)
        return whole + (rest > 0 and not getattr(self.batches, "drop_last", False))

    def __iter__(self) -> Iterator[Numbered]:
        epoch, first = self.epoch, self.first
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)
        order = None if self.sampler is None else seed_order(self.sampler, self.seed, epoch)
        numbered = enumerate(self._mine(order))
        for number, indices in islice(numbered, first, None):
            place = number * self.world_size + self.rank
            yield Numbered(indices, seeds.derive(self.seed, "batch", epoch, place))
        self.epoch, self.first = epoch + 1, 0

    def _mine(self, order: Sequence[Any] | None) -> Iterable[Sequence[Any]]:
        """Every n-th batch; the last ones are filled up with the epoch's first samples, so that ranks have as many."""
        size = getattr(self.batches, "batch_size", None)
        if order is None or size is None:
            return self.batches if self.world_size == 1 else self._every_nth(self.batches)
        per_round = size * self.world_size
        rounds = len(order) // per_round if self.batches.drop_last else -(-len(order) // per_round)
        if self.world_size == 1 and not self.batches.drop_last:
            return (order[first : first + size] for first in range(0, len(order), size))
        filled = list(islice(cycle(order), rounds * per_round))
        return (filled[first : first + size] for first in range(self.rank * size, len(filled), per_round))

    def _every_nth(self, batches: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        listed = list(batches)
        filled = islice(cycle(listed), len(self) * self.world_size) if listed else iter(())
        return islice(filled, self.rank, None, self.world_size)


def seed_order(sampler: Any, seed: int, epoch: int) -> Sequence[Any] | None:
    """The whole order of an epoch; None for a sampler that has no length.

    A sampler with a `generator`, or one of PyTorch's that has none, draws as it does in Transformers: from the seed
    plus the epoch. Others draw from the global generators, which are seeded for the epoch here.
    """
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    if isinstance(sampler, SequentialSampler):
        return range(len(sampler))
    if isinstance(getattr(sampler, "generator", None), torch.Generator):
        sampler.generator.manual_seed(seed + epoch)
    elif isinstance(sampler, RandomSampler) or type(sampler).__name__ == "LengthGroupedSampler":
        sampler.generator = torch.Generator()
        sampler.generator.manual_seed(seed + epoch)
    else:
        seed_everything(seeds.derive(seed, "order", epoch))
    try:
        len(sampler)
    except TypeError:
        return None
    return list(sampler)


class TokenBatches(Sampler[list[int]]):
    """Batches of samples of like length that are at most `max_tokens` when padded, shuffled anew in each epoch.

    Every epoch has as many: equal lengths change places, and whole batches do. A sample longer than `max_tokens`
    is a batch of its own.
    """

    def __init__(self, lengths: Sequence[int], max_tokens: int, *, seed: int) -> None:
        self.lengths_N = np.asarray(lengths, dtype=np.int64)
        self.max_tokens = max_tokens
        self.seed = seed
        self.epoch = 0
        self._bounds = self._cut(np.sort(self.lengths_N)[::-1])

    def set_epoch(self, epoch: int) -> None:
        """Be the batches of that epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng(seeds.derive(self.seed, "token batches", self.epoch))
        mixed_N = draw.permutation(len(self.lengths_N))
        sorted_N = mixed_N[np.argsort(-self.lengths_N[mixed_N], kind="stable")]
        for batch in draw.permutation(len(self._bounds)):
            first, last = self._bounds[batch]
            yield sorted_N[first:last].tolist()

    def _cut(self, falling_N: Any) -> list[tuple[int, int]]:
        bounds, first = [], 0
        while first < len(falling_N):
            last = first + max(1, self.max_tokens // max(1, int(falling_N[first])))
            bounds.append((first, min(last, len(falling_N))))
            first = last
        return bounds


class RankShare(IterableDataset[Any]):
    """This rank's samples of an iterable dataset: of each round of batches, one batch; the last round is filled up."""

    def __init__(self, dataset: Any, batch_size: int, *, rank: int, world_size: int, drop_last: bool) -> None:
        self.sharded = dataset
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.num_read = 0
        """Samples of all ranks that were read in this pass, without those that fill up the last round."""

    def set_epoch(self, epoch: int) -> None:
        """Tell the dataset, where it wants to know."""
        if hasattr(self.sharded, "set_epoch"):
            self.sharded.set_epoch(epoch)

    def __iter__(self) -> Iterator[Any]:
        samples = iter(self.sharded)
        per_round = self.batch_size * self.world_size
        first: list[Any] = []
        self.num_read = 0
        while one := list(islice(samples, per_round)):
            first = first or one
            self.num_read += len(one)
            if len(one) < per_round:
                if self.drop_last:
                    return
                one = list(islice(chain(one, cycle(first)), per_round))
            yield from one[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]

    def __len__(self) -> int:
        per_round = self.batch_size * self.world_size
        whole, rest = divmod(len(self.sharded), per_round)
        return self.batch_size * (whole + (rest > 0 and not self.drop_last))
