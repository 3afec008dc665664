"""A training that goes on from a checkpoint amid an epoch is the one that was never stopped, to the last bit."""

import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from tests.api.training_parts import OwnLoader, Stop, Stream, Tagger, curve, mask, sentences, trainer, weights


def table(*, streamed: bool = False) -> Any:
    """A dataset that is stored: with words changed by chance when they are read, or as a stream that is shuffled."""
    stored = datasets.Dataset.from_list(sentences())
    return (
        stored.to_iterable_dataset(num_shards=2).shuffle(seed=3, buffer_size=5)
        if streamed
        else stored.with_transform(change)
    )


def change(rows: dict[str, Any]) -> dict[str, Any]:
    return rows | {"input_ids": [[random.choice(ids) for _ in ids] for ids in rows["input_ids"]]}


CASES: dict[str, dict[str, Any]] = {
    "a table read with chance": {"train_dataset": table()},
    "a table read with chance by workers": {"train_dataset": table(), "dataloader_num_workers": 2},
    "a table as a stream": {"train_dataset": table(streamed=True), "max_steps": 22},
    "random masks": {"data_collator": mask},
    "workers": {"data_collator": mask, "dataloader_num_workers": 2},
    "accumulation": {"gradient_accumulation_steps": 3},
    "grouped lengths": {"train_sampling_strategy": "group_by_length", "data_collator": mask},
    "rebalanced": {"train_sampling_strategy": "batch_rebalance", "gradient_accumulation_steps": 2},
    "in order": {"train_sampling_strategy": "sequential"},
    "tokens a batch": {"max_tokens_per_batch": 24, "data_collator": mask},
    "last one dropped": {"dataloader_drop_last": True, "data_collator": mask},
    "iterable": {"train_dataset": Stream(), "data_collator": mask, "max_steps": 20},
    "short iterable": {"train_dataset": Stream(10), "data_collator": mask, "max_steps": 11},
    "iterable with a worker": {"train_dataset": Stream(), "dataloader_num_workers": 1, "max_steps": 14},
    "own loader": {"cls": OwnLoader, "data_collator": mask},
    "moving average": {"weight_average_decay": 0.9},
    "cosine": {"lr_scheduler_type": "cosine", "warmup_steps": 3},
    "seldom logged": {"logging_steps": 5},
    "data seed": {"data_seed": 5, "optim": "sgd"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [7, 11])
def test_goes_on_exactly(case: str, step: int, tmp_path: Path) -> None:
    options = CASES[case]
    if case in ("accumulation", "rebalanced"):
        step = step // 3
    whole = trainer(tmp_path / "whole", **options)
    whole.train()
    broken = trainer(tmp_path / "broken", callbacks=[Stop(step)], **options)
    broken.train()
    assert broken.state.global_step == step
    torch.manual_seed(999)
    resumed = trainer(tmp_path / "broken", **options)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step
    assert torch.equal(weights(resumed), weights(whole))
    assert curve(resumed) == curve(whole)
    assert resumed.state.epoch == whole.state.epoch


def test_indexed_data_is_not_read_again(tmp_path: Path) -> None:
    class Counted(list[Any]):
        reads: list[int]

        def __getitem__(self, place: Any) -> Any:
            self.reads.append(place)
            return super().__getitem__(place)

    trainer(tmp_path, callbacks=[Stop(9)]).train()
    resumed = trainer(tmp_path)
    data = Counted(resumed.train_dataset)
    data.reads = []
    resumed.train_dataset = data
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 22
    assert len(data.reads) == 2 * 44 - 9 * 4


def test_reading_on_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer(tmp_path, train_dataset=Stream(), max_steps=9, callbacks=[Stop(6)]).train()
    trainer(tmp_path, train_dataset=Stream(), max_steps=9).train(resume_from_checkpoint=True)
    assert "reading on past 6 batches" in caplog.text


def test_data_can_begin_anew(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[Stop(7)]).train()
    resumed = trainer(tmp_path, ignore_data_skip=True)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 22


def test_goes_on_at_the_same_sample_with_another_batch_size(tmp_path: Path) -> None:
    class Counted(list[Any]):
        reads: list[int]

        def __getitem__(self, place: Any) -> Any:
            self.reads.append(place)
            return super().__getitem__(place)

    trainer(tmp_path, callbacks=[Stop(8)]).train()
    resumed = trainer(tmp_path, per_device_train_batch_size=2, num_train_epochs=1, max_steps=14)
    data = Counted(resumed.train_dataset)
    data.reads = []
    resumed.train_dataset = data
    resumed.train(resume_from_checkpoint=True)
    order = torch.randperm(44, generator=torch.Generator().manual_seed(42)).tolist()
    assert data.reads == order[32:]


def test_a_finished_training_does_nothing_more(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[Stop(22)]).train()
    resumed = trainer(tmp_path)
    before = weights(resumed)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 22
    assert not torch.equal(weights(resumed), before)  # those of the checkpoint


def test_none_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No valid checkpoint found in output directory"):
        trainer(tmp_path).train(resume_from_checkpoint=True)
    assert not trainer(tmp_path).is_in_train


def test_the_order_is_that_of_the_seed_and_the_epoch(tmp_path: Path) -> None:
    loader = trainer(tmp_path, seed=11).get_train_dataloader()
    seen = []
    for epoch in range(2):
        loader.begin(epoch)
        seen.append([place for batch in loader.batches for place in batch[:]])
    for epoch, places in enumerate(seen):
        assert places == torch.randperm(44, generator=torch.Generator().manual_seed(11 + epoch)).tolist()


def test_two_trainings_are_one(tmp_path: Path) -> None:
    first, second = (trainer(tmp_path / name, model=Tagger(), data_collator=mask) for name in ("a", "b"))
    second.model.load_state_dict(first.model.state_dict())
    first.train()
    torch.rand(5)
    second.train()
    assert curve(first) == curve(second)
