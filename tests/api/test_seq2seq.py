"""A trainer that generates when it evaluates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GenerationConfig, T5Config, T5ForConditionalGeneration

from instar import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer

PAD = 0


@pytest.fixture
def model() -> T5ForConditionalGeneration:
    torch.manual_seed(5)
    config = T5Config(
        vocab_size=24,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=PAD,
    )
    return T5ForConditionalGeneration(config)


class Pairs(torch.utils.data.Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"input_ids": [3 + row, 4, 1], "attention_mask": [1, 1, 1], "labels": [5, 6 + row, 1]}


class Seen:
    """Keeps what metrics were given."""

    def __init__(self) -> None:
        self.predictions: list[np.ndarray[Any, Any]] = []
        self.labels: list[np.ndarray[Any, Any]] = []

    def __call__(self, given: Any) -> dict[str, float]:
        self.predictions.append(given.predictions)
        self.labels.append(given.label_ids)
        is_written = isinstance(given.predictions, np.ndarray)
        return {"length": float(given.predictions.shape[1])} if is_written else {}


@pytest.fixture
def seen() -> Iterator[Seen]:
    return Seen()  # type: ignore[return-value]


def trainer(model: Any, folder: Path, seen: Seen, kind: Any = Seq2SeqTrainer, **values: Any) -> Any:
    given = {"predict_with_generate": True, "per_device_eval_batch_size": 2, "use_cpu": True, **values}
    args = Seq2SeqTrainingArguments(str(folder), **given)
    return kind(model, args, eval_dataset=Pairs(), compute_metrics=seen)


def test_metrics_see_what_the_model_writes(model: Any, tmp_path: Path, seen: Seen):
    mine = trainer(model, tmp_path, seen, generation_max_length=7)
    metrics = mine.evaluate()
    (tokens,) = seen.predictions
    prompts = [[3 + row, 4, 1] for row in range(5)]
    expected = model.eval().generate(input_ids=torch.tensor(prompts), max_length=7)
    assert tokens.shape == (5, 7)
    assert np.array_equal(tokens[:, : expected.shape[1]], expected.numpy())
    assert np.array_equal(seen.labels[0][:, :3], [[5, 6 + row, 1] for row in range(5)])
    plain = trainer(model, tmp_path, seen, Trainer, prediction_loss_only=True).evaluate()
    assert metrics["eval_loss"] == pytest.approx(plain["eval_loss"], rel=1e-6)
    assert metrics["eval_length"] == 7


def test_what_a_call_gives_goes_first_and_does_not_stay(model: Any, tmp_path: Path, seen: Seen):
    mine = trainer(model, tmp_path, seen, generation_max_length=7, generation_num_beams=2)
    assert mine.evaluate(max_length=4)["eval_length"] == 4
    assert mine.evaluate()["eval_length"] == 7
    assert mine.predict(Pairs(), max_length=5, num_beams=1).predictions.shape[1] == 5
    sets = mine.evaluate({"a": Pairs(), "b": Pairs()}, max_length=4)
    assert (sets["eval_a_length"], sets["eval_b_length"]) == (4, 4)


def test_without_generating_it_is_a_trainer(model: Any, tmp_path: Path, seen: Seen):
    mine = trainer(model, tmp_path, seen, predict_with_generate=False)
    output = mine.predict(Pairs())
    assert output.predictions[0].shape[-1] == 24


def test_the_generation_config_of_the_arguments(model: Any, tmp_path: Path, seen: Seen):
    config = GenerationConfig(max_length=6, decoder_start_token_id=0, pad_token_id=PAD)
    config.save_pretrained(tmp_path)
    for given in (config, str(tmp_path), tmp_path / "generation_config.json"):
        assert trainer(model, tmp_path, seen, generation_config=given).evaluate()["eval_length"] == 6
    bad = GenerationConfig(max_length=6)
    bad.temperature = 0.5
    bad.do_sample = False
    with pytest.raises(ValueError, match="Fix these issues"):
        trainer(model, tmp_path, seen, generation_config=bad)


def test_decoder_inputs_made_from_labels_are_no_prompt(model: Any, tmp_path: Path, seen: Seen):
    mine = trainer(model, tmp_path, seen, generation_max_length=6)
    batch = {name: torch.tensor([value]) for name, value in Pairs()[0].items()}
    _, alone, _ = mine.prediction_step(model.eval(), dict(batch), prediction_loss_only=False)
    batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    _, beside, labels = mine.prediction_step(model.eval(), batch, prediction_loss_only=False)
    assert torch.equal(alone, beside)
    assert labels.shape == (1, 6)
