"""Samplers of users: read as training goes, whatever they draw from, with or without an end."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, Sampler, SequentialSampler

from instar import Trainer, TrainerCallback
from instar.api.batches import Batches, RankShare, RoundRows
from tests.api.training_parts import Stop, mask, sentences, trainer, weights


class Curriculum(Sampler[int]):
    """The same sample until training raises the level."""

    level = 0

    def __len__(self) -> int:
        return 24

    def __iter__(self) -> Iterator[int]:
        for _ in range(24):
            yield self.level


class Endless(Sampler[int]):
    """Draws from Python's own generator, one by one, and never ends."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield random.randrange(44)


class Backwards(SequentialSampler):
    """Another order in a subclass of PyTorch's."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self) - 1, -1, -1))


def with_sampler(folder: Path, sampler: Any, **options: Any) -> Trainer:
    class Own(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return sampler

    return trainer(folder, cls=Own, **options)


class Seen:
    """Samples, and the numbers of those that were read."""

    def __init__(self) -> None:
        self.rows, self.read = sentences(), []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> Any:
        self.read.append(number)
        return self.rows[number]


def test_a_sampler_that_adapts_is_read_as_training_goes(tmp_path: Path) -> None:
    class Up(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            sampler.level += 1

    sampler, data = Curriculum(), Seen()
    with_sampler(tmp_path, sampler, train_dataset=data, callbacks=[Up()], num_train_epochs=1).train()
    assert data.read == [step for step in range(6) for _ in range(4)]


def test_a_sampler_without_an_end_trains_and_goes_on(tmp_path: Path) -> None:
    options = {"max_steps": 6, "data_collator": mask}
    whole = with_sampler(tmp_path / "whole", Endless(), **options)
    whole.train()
    with_sampler(tmp_path / "cut", Endless(), callbacks=[Stop(3)], **options).train()
    resumed = with_sampler(tmp_path / "cut", Endless(), **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    assert torch.equal(weights(resumed), weights(whole)), "draws of the sampler are a stream of their own"


@pytest.mark.parametrize("size", [3, None])
def test_ranks_share_what_has_no_end(size: int | None) -> None:
    class Numbers(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(count())

    batches = BatchSampler(Numbers(), 3, drop_last=False)
    found = []
    for rank in range(2):
        ours = iter(Batches(batches, Numbers() if size else None, seed=1, rank=rank, world_size=2))
        found.append([next(ours)[:] for _ in range(2)])
    assert found == [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]


def test_a_subclass_of_a_known_sampler_keeps_its_order(tmp_path: Path) -> None:
    loader = with_sampler(tmp_path, Backwards(range(44))).get_train_dataloader()
    assert [number for batch in loader.batches for number in batch[:]] == list(range(43, -1, -1))


@pytest.mark.parametrize("rows", range(1, 14))
def test_without_repeated_rows_each_is_read_once_and_weighs_the_same(rows: int) -> None:
    sampler, summed, read = SequentialSampler(range(rows)), [0.0] * rows, []
    for rank in range(3):
        for number in range(-(-rows // 6)):
            ours = Batches(
                BatchSampler(sampler, 2, drop_last=False), sampler, seed=1, rank=rank, world_size=3, repeats_rows=False
            )
            ours.first = number
            batch = next(iter(ours))[:]
            shared = ours.uneven.get(number, RoundRows(len(batch), 3 * len(batch)))
            read += batch[: shared.mine]
            for row in batch:
                summed[row] += shared.weight(3) / len(batch) * shared.total / 3
    assert sorted(read) == list(range(rows))
    assert summed == pytest.approx([1.0] * rows)


@pytest.mark.parametrize("rows", range(1, 14))
def test_a_stream_without_repeated_rows(rows: int) -> None:
    shares = [
        RankShare(range(rows), 2, rank=rank, world_size=3, drop_last=False, repeats_rows=False) for rank in range(3)
    ]
    read = []
    for share in shares:
        mine = list(share)
        assert -(-len(mine) // 2) == -(-rows // 6), "as many batches on every rank"
        repeated = sum(len(mine) - 2 * number for number, shared in share.uneven.items() if not shared.mine)
        read += mine[: len(mine) - repeated]
    assert sorted(read) == list(range(rows))
