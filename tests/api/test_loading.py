"""Data loaders of a Trainer: which samples, in which order, with which columns."""

import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import RandomSampler, SequentialSampler
from transformers import BertConfig, BertForSequenceClassification, DataCollatorWithPadding

from instar import Trainer, TrainingArguments
from instar.api.batches import Batches, RankShare, TokenBatches
from tests.api.seed_run import make_distilbert
from tests.api.training_parts import Stream, Tagger, arguments, mask, pad, sentences, trainer

# ---- batches ----


def numbers_of(size: int, batch: int, ranks: int, *, drop_last: bool) -> list[list[list[int]]]:
    """Batches of each rank."""
    found = []
    for rank in range(ranks):
        sampler = SequentialSampler(range(size))
        batches = torch.utils.data.BatchSampler(sampler, batch, drop_last)
        ours = Batches(batches, sampler, seed=1, rank=rank, world_size=ranks)
        found.append([one[:] for one in ours])
        assert len(ours) == len(found[-1])
    return found


@settings(deadline=None, max_examples=60)
@given(size=st.integers(1, 40), batch=st.integers(1, 7), ranks=st.integers(2, 4), drop_last=st.booleans())
def test_ranks_share_batches_as_accelerate_does(size: int, batch: int, ranks: int, drop_last: bool) -> None:  # noqa: FBT001
    from accelerate.data_loader import BatchSamplerShard

    wanted = [
        list(
            BatchSamplerShard(
                torch.utils.data.BatchSampler(SequentialSampler(range(size)), batch, drop_last), ranks, rank
            )
        )
        for rank in range(ranks)
    ]
    assert numbers_of(size, batch, ranks, drop_last=drop_last) == wanted


@settings(deadline=None, max_examples=60)
@given(size=st.integers(0, 40), batch=st.integers(1, 7), ranks=st.integers(2, 4), drop_last=st.booleans())
def test_ranks_share_a_stream(size: int, batch: int, ranks: int, drop_last: bool) -> None:  # noqa: FBT001
    shares = [
        list(RankShare(range(size), batch, rank=rank, world_size=ranks, drop_last=drop_last)) for rank in range(ranks)
    ]
    read = [share[at : at + batch] for at in range(0, len(shares[0]), batch) for share in shares]
    flat = [number for one in read for number in one]
    assert len({len(share) for share in shares}) == 1
    assert len(shares[0]) % batch == 0
    whole = size - size % (batch * ranks) if drop_last else size
    assert flat[:whole] == list(range(whole))
    assert len(flat) - whole < batch * ranks


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=60), most=st.integers(5, 60), epoch=st.integers(0, 3))
def test_batches_by_tokens(lengths: list[int], most: int, epoch: int) -> None:
    batches = TokenBatches(lengths, most, seed=3)
    batches.set_epoch(epoch)
    found = list(batches)
    assert sorted(place for batch in found for place in batch) == list(range(len(lengths)))
    assert len(found) == len(batches)
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= most
    assert found == list(batches)
    batches.set_epoch(epoch + 1)
    assert len(list(batches)) == len(found)


def test_workers_draw_as_the_main_process(tmp_path: Path) -> None:
    seen = []
    for workers in (0, 2):
        loader = trainer(tmp_path, data_collator=mask, dataloader_num_workers=workers).get_train_dataloader()
        seen.append([batch["input_ids"] for batch in loader])
        random.seed(5)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*seen, strict=True))


def test_evaluation_draws_the_same_each_time(tmp_path: Path) -> None:
    tried = trainer(tmp_path, eval_dataset=sentences(9), data_collator=mask)
    first = tried.evaluate()["eval_loss"]
    tried.train()
    loader = tried.get_eval_dataloader()
    assert [batch["input_ids"].tolist() for batch in loader] == [
        batch["input_ids"].tolist() for batch in tried.get_eval_dataloader()
    ]
    assert tried.evaluate()["eval_loss"] != first


# ---- loaders ----


def test_sizes(tmp_path: Path) -> None:
    tried = trainer(tmp_path, eval_dataset=sentences(10), per_device_eval_batch_size=3)
    train, judge, test = (
        tried.get_train_dataloader(),
        tried.get_eval_dataloader(),
        tried.get_test_dataloader(sentences(7)),
    )
    assert [len(loader) for loader in (train, judge, test)] == [11, 4, 3]
    assert [loader.total_batch_size for loader in (train, judge)] == [4, 3]
    assert isinstance(train.sampler, RandomSampler)
    assert isinstance(judge.sampler, SequentialSampler)
    assert train.dataset is tried.train_dataset
    assert isinstance(trainer(tmp_path, train_sampling_strategy="sequential")._get_train_sampler(), SequentialSampler)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    tried = trainer(tmp_path, train_dataset=None)
    with pytest.raises(ValueError, match="training requires a train_dataset"):
        tried.train()
    with pytest.raises(ValueError, match="evaluation requires an eval_dataset"):
        tried.evaluate()
    with pytest.raises(ValueError, match="the train_dataset is empty"):
        trainer(tmp_path, train_dataset=sentences(0)).train()
    few = trainer(tmp_path, train_dataset=sentences(2), per_device_train_batch_size=4, dataloader_drop_last=True)
    few.args.max_steps = -1
    with pytest.raises(ValueError, match="no batch to train on: 2 samples, 4 in a batch, dataloader_drop_last=True"):
        few.train()
    with pytest.raises(KeyError, match=r"wanted the name of one of the sets \(good, bad\); got 'ugly'"):
        trainer(tmp_path, eval_dataset={"good": sentences(4), "bad": sentences(4)}).evaluate("ugly")
    with pytest.raises(KeyError, match="eval_dataset is no dict"):
        trainer(tmp_path, eval_dataset=sentences(4)).evaluate("good")


def test_several_evaluation_sets_and_kept_workers(tmp_path: Path) -> None:
    sets = {"a": sentences(4), "b": sentences(6)}
    tried = trainer(tmp_path, eval_dataset=sets, dataloader_persistent_workers=True, dataloader_num_workers=1)
    assert tried.get_eval_dataloader("a") is tried.get_eval_dataloader("a")
    assert tried.get_eval_dataloader("a") is not tried.get_eval_dataloader("b")
    assert trainer(tmp_path, eval_dataset=sets).get_eval_dataloader("a").dataset is sets["a"]


def test_an_own_sampler_is_taken(tmp_path: Path) -> None:
    class Backwards(torch.utils.data.Sampler[int]):
        def __len__(self) -> int:
            return 44

        def __iter__(self) -> Any:
            return iter(range(43, -1, -1))

    class Own(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return Backwards()

    loader = trainer(tmp_path, cls=Own).get_train_dataloader()
    assert [place for batch in loader.batches for place in batch[:]] == list(range(43, -1, -1))


def test_grouped_lengths(tmp_path: Path) -> None:
    tried = trainer(tmp_path, train_sampling_strategy="group_by_length")
    batches = [batch["input_ids"].shape[1] * 4 for batch in tried.get_train_dataloader()]
    assert sum(batches) < sum(batch["input_ids"].shape[1] * 4 for batch in trainer(tmp_path).get_train_dataloader())
    table = datasets.Dataset.from_list([sample | {"length": len(sample["input_ids"])} for sample in sentences()])
    assert trainer(tmp_path, train_dataset=table)._lengths(table) == table["length"][:]
    with pytest.raises(ValueError, match="'input_ids' key"):
        tried._lengths([(1, 2)])
    assert trainer(tmp_path, train_dataset=Stream(), max_steps=1)._get_train_sampler(Stream()) is None


# ---- columns ----


def test_columns_that_the_model_does_not_take(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = [sample | {"extra": 1, "text": "word"} for sample in sentences()]
    table = datasets.Dataset.from_list(plain)
    seen: list[set[str]] = []

    def look(samples: list[Any]) -> Any:
        seen.append(set(samples[0]))
        return pad(samples)

    for data in (plain, table):
        for batch in trainer(tmp_path, train_dataset=data, data_collator=look).get_train_dataloader():
            assert set(batch) == {"input_ids", "labels"}
    assert all(names == {"input_ids", "labels"} for names in seen)
    caplog.set_level("INFO", logger="instar")
    trainer(tmp_path, train_dataset=table).get_train_dataloader()
    assert "does not take the columns in the Training set: extra, text" in caplog.text


def test_no_column_is_left(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"words": ["a"]})
    with pytest.raises(
        ValueError, match=r"No columns in the dataset match the model's forward method signature: \(inp"
    ):
        trainer(tmp_path, train_dataset=table).train()


def test_an_empty_batch(tmp_path: Path) -> None:
    tried = trainer(tmp_path, train_dataset=[{"words": 1}] * 4, data_collator=lambda samples: samples[0])
    with pytest.raises(ValueError, match="The batch received was empty"):
        tried.train()


def test_texts_are_left_out_only_where_the_collator_cannot_take_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import AutoTokenizer

    make_distilbert(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    data = [{"text": "good", **tokenizer("good"), "labels": place % 2} for place in range(8)]
    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        max_position_embeddings=8,
    )  # fmt: skip

    def reads_texts(samples: list[Any]) -> dict[str, Tensor]:
        batch = tokenizer([sample["text"] for sample in samples], return_tensors="pt")
        return {**batch, "labels": torch.tensor([sample["labels"] for sample in samples]), "note": ["a", "b"]}

    for collator in (DataCollatorWithPadding(tokenizer), reads_texts):
        tried = Trainer(
            model=BertForSequenceClassification(config),
            args=arguments(tmp_path, remove_unused_columns=False, max_steps=2),
            train_dataset=data,
            data_collator=collator,
        )
        tried.train()
    assert len([line for line in caplog.messages if "fails on text" in line]) == 1


def test_a_collator_that_fails_fails_with_its_own_error(tmp_path: Path) -> None:
    def fails(samples: list[Any]) -> Any:
        raise ValueError("mine")

    data = [sample | {"text": "word"} for sample in sentences()]
    tried = trainer(tmp_path, train_dataset=data, data_collator=fails, remove_unused_columns=False)
    with pytest.raises(ValueError, match="mine"):
        tried.train()


def test_batches_stay_what_they_are_on_their_way_to_the_device(tmp_path: Path) -> None:
    from transformers import BatchEncoding

    tried = trainer(tmp_path)
    given = BatchEncoding({"input_ids": torch.ones(1), "nest": [torch.ones(1), ({"a": torch.ones(1)}, "text")]})
    found = tried._prepare_inputs(given)
    assert type(found) is BatchEncoding
    assert type(found["nest"][1]) is tuple
    assert found["nest"][1][1] == "text"


def test_a_collator_that_needs_no_tokenizer_and_one_that_pads(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, default_data_collator

    make_distilbert(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    args = TrainingArguments(str(tmp_path), use_cpu=True)
    assert Trainer(Tagger(), args).data_collator is default_data_collator
    assert isinstance(Trainer(Tagger(), args, processing_class=tokenizer).data_collator, DataCollatorWithPadding)
