"""Models that have no head for a task: what they can do is done, and only what nobody gives a loss for is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from instar import Trainer
from tests.api.training_parts import arguments

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
ROWS = [{"input_ids": torch.arange(5, 11)}] * 4


def bert() -> Any:
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SIZES))


def squared(model: Any, inputs: Any) -> Tensor:
    found: Tensor = model(**inputs).last_hidden_state.square().mean()
    return found


def first_loss(trainer: Trainer) -> float:
    trainer.train()
    return float(next(line["loss"] for line in trainer.state.log_history if "loss" in line))


def test_it_predicts_and_is_refused_when_it_is_to_train(tmp_path: Path) -> None:
    trainer = Trainer(bert(), arguments(tmp_path), train_dataset=ROWS)
    assert [part.shape for part in trainer.predict(ROWS).predictions] == [(4, 6, 16), (4, 16)]
    with pytest.raises(ValueError, match=r"\(BertModel\) cannot be used as is for training"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_losses_that_users_bring_train_it(tmp_path: Path) -> None:
    class Step(Trainer):
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
            loss = squared(model, self._prepare_inputs(inputs))
            loss.backward()
            return loss.detach()

    class Loss(Trainer):
        def compute_loss(self, model: Any, inputs: Any, **kwargs: Any) -> Any:
            return squared(model, inputs)

    options = {"max_steps": 1, "learning_rate": 0.0}
    on_instance = Trainer(bert(), arguments(tmp_path, **options), train_dataset=ROWS)
    on_instance.compute_loss = lambda model, inputs, num_items_in_batch=None: squared(model, inputs)  # type: ignore[method-assign]
    patched = bert()
    own = patched.forward
    patched.forward = lambda input_ids: {"loss": own(input_ids).last_hidden_state.square().mean()}
    trainers = [kind(bert(), arguments(tmp_path, **options), train_dataset=ROWS) for kind in (Step, Loss)]
    trainers += [on_instance, Trainer(patched, arguments(tmp_path, **options), train_dataset=ROWS)]
    assert [first_loss(trainer) for trainer in trainers] == pytest.approx([1.0] * 4, abs=0.2)


def test_a_model_that_makes_its_targets_trains_when_it_is_asked_for_its_loss(tmp_path: Path) -> None:
    text = {**SIZES, "max_position_embeddings": 8, "eos_token_id": 59, "bos_token_id": 0}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 4, "patch_size": 2}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    torch.manual_seed(0)
    model = transformers.CLIPModel(config)
    rows = [{"input_ids": torch.tensor([0, 5 + n, 6, 59]), "pixel_values": torch.randn(3, 4, 4)} for n in range(4)]

    def collate(samples: list[dict[str, Tensor]]) -> dict[str, Any]:
        return {name: torch.stack([sample[name] for sample in samples]) for name in rows[0]} | {"return_loss": True}

    args = arguments(tmp_path, max_steps=1, learning_rate=0.0, per_device_train_batch_size=4)
    trainer = Trainer(model, args, collate, rows, rows)
    wanted = model(**collate(rows)).loss.item()
    assert first_loss(trainer) == pytest.approx(wanted, rel=1e-3)  # rows in another order
    assert trainer.evaluate()["eval_loss"] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"remove_unused_columns": False}, {"train_sampling_strategy": "group_by_length"}]
)
def test_samples_may_be_encodings(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = [transformers.BatchEncoding({"input_ids": [5, 6, 7], "labels": number % 2}) for number in range(4)]
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))
    trainer = Trainer(model, arguments(tmp_path, max_steps=2, **options), train_dataset=rows, eval_dataset=rows)
    trainer.train()
    assert trainer.predict(rows).predictions.shape == (4, 2)
    assert trainer.evaluate()["eval_loss"] > 0
