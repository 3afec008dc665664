"""PyTorch's `DataLoader`, whose batches can be asked for from any epoch and number on."""

from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from instar.api.batches import Batches, RankShare, RoundRows
from instar.core import seeds
from instar.trainer.seeding import seed_everything


class NumberedLoader(DataLoader[Any]):
    """A `DataLoader` in all that users see of it; its batches and all that is drawn for them follow their number."""

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        repeats_rows: bool = True,
        **options: Any,
    ) -> None:
        """`options` are those of `DataLoader`. Ranks share the batches of a map-style dataset; see `Batches`."""
        super().__init__(dataset, **options)
        self.shares_rows = world_size > 1
        """Whether other ranks read other rows."""
        self.total_batch_size = None if self.batch_size is None else self.batch_size * world_size
        """Samples that all ranks read at once."""
        self.can_begin_anywhere = not isinstance(dataset, IterableDataset)
        sampler = None if options.get("batch_sampler") is not None else self.sampler
        share: dict[str, Any] = {"rank": rank, "world_size": world_size, "repeats_rows": repeats_rows}
        self.batches = Batches(super()._index_sampler, sampler, seed=seed, **share)

    @property
    def _index_sampler(self) -> Any:
        batches = self.__dict__.get("batches")
        return super()._index_sampler if batches is None else batches

    def begin(self, epoch: int, first: int = 0) -> None:
        """The next pass is that of `epoch`, from batch `first` on."""
        self.batches.epoch, self.batches.first = epoch, first
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)

    set_epoch = begin

    def uneven_rows(self, number: int) -> RoundRows | None:
        """How the rows of a round that was read, by its number in the epoch, are shared; None: evenly."""
        source = self.dataset if isinstance(self.dataset, RankShare) else self.batches
        return source.uneven.get(number)

    def __iter__(self) -> Any:
        seed_everything(seeds.derive(self.batches.seed, "epoch", self.batches.epoch))
        return super().__iter__()
