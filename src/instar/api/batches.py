"""Which samples a batch holds, as a function of (seed, epoch, number): nothing has to be replayed to go on.

Random draws of datasets and collators follow the batch, too: the list of indices that a worker is sent seeds the
generators of that worker when it begins to fetch.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, RandomSampler, Sampler, SequentialSampler

from instar.core import seeds
from instar.trainer.seeding import host_states, restore_host_states, seed_everything


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


@dataclass(frozen=True)
class RoundRows:
    """Rows of a round, which is one batch for each rank: how many this rank has, and how many all ranks have."""

    mine: int
    """0: the batch repeats rows of rank 0, so that this rank takes part in the step; it must weigh nothing."""
    total: int

    def weight(self, ranks: int) -> float:
        """What a mean over this rank's rows counts for in the mean over ranks that is the mean over all rows."""
        return self.mine * ranks / self.total


class Batches:
    """The batches of this rank, epoch by epoch, from any batch on; what a `DataLoader` asks for indices.

    Samplers are read one round of batches at a time, so that they may adapt to what was learned meanwhile, and need
    no end.
    """

    def __init__(
        self,
        batches: Any,
        sampler: Any,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        repeats_rows: bool = True,
    ) -> None:
        """`batches` are `BatchSampler`-like; `sampler` is where they take their order from, None if from nowhere.

        Where the last round has no rows for some ranks, `repeats_rows` fills it up with the epoch's first; without
        it those ranks get a batch that weighs nothing, as `uneven` says.
        """
        self.batches = batches
        self.sampler = sampler
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.repeats_rows = repeats_rows
        self.epoch = 0
        self.first = 0
        """The batch to begin with, counted in this rank's batches."""
        self.uneven: dict[int, RoundRows] = {}
        """By number, the batches of this epoch that hold more or less than this rank's share of their round."""

    def __len__(self) -> int:
        whole, rest = divmod(len(self.batches), self.world_size)
        return whole + (rest > 0 and not getattr(self.batches, "drop_last", False))

    def __iter__(self) -> Iterator[Numbered]:
        epoch, first = self.epoch, self.first
        self.uneven = {}
        if hasattr(self.batches, "set_epoch"):
            self.batches.set_epoch(epoch)
        size = None if self.sampler is None else getattr(self.batches, "batch_size", None)
        if size is None:
            order, per_batch = Order(self.batches, seeds.derive(self.seed, "order", epoch)), 1
        else:
            order, per_batch = order_of(self.sampler, self.seed, epoch), size
        for number, entries in self._rounds(order, per_batch * self.world_size, first):
            mine = entries if self.world_size == 1 else self._share_of_round(number, entries, size)
            place = number * self.world_size + self.rank
            yield Numbered(mine if size else mine[0], seeds.derive(self.seed, "batch", epoch, place))
        self.epoch, self.first = epoch + 1, 0

    def _rounds(self, order: "Order", per_round: int, first: int) -> Iterator[tuple[int, list[Any]]]:
        """The rounds from number `first` on, each filled up with the epoch's first entries where that is asked for."""
        drops_last = bool(getattr(self.batches, "drop_last", False))
        begun = order.take(per_round)
        number = order.skip(first, per_round) if first else 0
        one = order.take(per_round) if first else begun
        while one and not (drops_last and len(one) < per_round):
            if self.repeats_rows and self.world_size > 1 and len(one) < per_round:
                one = list(islice(chain(one, cycle(begun)), per_round))
            yield number, one
            number, one = number + 1, order.take(per_round)

    def _share_of_round(self, number: int, entries: list[Any], size: int | None) -> list[Any]:
        """This rank's entries of a round: `size` rows, or a batch of rows."""
        per_batch = size or 1
        mine = entries[self.rank * per_batch : (self.rank + 1) * per_batch]
        if not self.repeats_rows:
            num_mine, total = (len(some) if size else sum(map(len, some)) for some in (mine, entries))
            if num_mine * self.world_size != total:
                self.uneven[number] = RoundRows(num_mine, total)
        return mine or entries[:per_batch]


class Order:
    """A sampler, read as its entries are asked for.

    What it draws from the global generators is a stream of its own, which starts from `seed`: neither data nor
    training in between change it, nor does it matter which entries are read and which are skipped.
    """

    def __init__(self, sampler: Iterable[Any], seed: int | None) -> None:
        """`seed` is None for what draws nothing from the global generators."""
        self._sampler = sampler
        self._seed = seed
        self._states: Any = None
        self._entries: Iterator[Any] = iter(()) if seed is not None else iter(sampler)

    def take(self, count: int) -> list[Any]:
        """The next entries, as many as there are."""
        if self._seed is None:
            return list(islice(self._entries, count))
        if self._states is None:
            seed_everything(self._seed)
            self._entries = iter(self._sampler)
        else:
            restore_host_states(self._states)
        taken = list(islice(self._entries, count))
        self._states = host_states()
        return taken

    def skip(self, rounds: int, per_round: int) -> int:
        """Pass over all but the first of so many rounds, of which the first is read; returns their number."""
        if isinstance(self._sampler, range):
            self._entries = iter(self._sampler[rounds * per_round :])
            return rounds
        for _ in range(rounds - 1):
            self.take(per_round)
        return rounds


def order_of(sampler: Any, seed: int, epoch: int) -> Order:
    """The order of an epoch.

    A sampler with a `generator`, or one of PyTorch's that has none, draws as it does in Transformers: from the seed
    plus the epoch. Others draw from the global generators, which are seeded for the epoch.
    """
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    if type(sampler) is SequentialSampler:
        return Order(range(len(sampler)), None)
    if isinstance(getattr(sampler, "generator", None), torch.Generator):
        sampler.generator.manual_seed(seed + epoch)
    elif isinstance(sampler, RandomSampler) or type(sampler).__name__ == "LengthGroupedSampler":
        sampler.generator = torch.Generator()
        sampler.generator.manual_seed(seed + epoch)
    return Order(sampler, None if type(sampler) is RandomSampler else seeds.derive(seed, "order", epoch))


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
    """This rank's samples of an iterable dataset: of each round of batches, one batch."""

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        rank: int,
        world_size: int,
        drop_last: bool,
        repeats_rows: bool = True,
    ) -> None:
        """The last round is filled up with the first samples, or is `uneven` as that of `Batches`."""
        self.sharded = dataset
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.repeats_rows = repeats_rows
        self.uneven: dict[int, RoundRows] = {}
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
        self.num_read, self.uneven = 0, {}
        while one := list(islice(samples, per_round)):
            first = first or one
            number = self.num_read // per_round
            self.num_read += len(one)
            if len(one) < per_round and self.drop_last:
                return
            if len(one) < per_round and self.repeats_rows:
                one = list(islice(chain(one, cycle(first)), per_round))
            mine = one[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            if len(mine) * self.world_size != len(one):
                self.uneven[number] = RoundRows(len(mine), len(one))
            yield from mine or one[: self.batch_size]

    def __len__(self) -> int:
        per_round = self.batch_size * self.world_size
        whole, rest = divmod(len(self.sharded), per_round)
        return self.batch_size * (whole + (rest > 0 and not self.drop_last))
