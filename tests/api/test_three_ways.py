"""Two steps and an evaluation by Transformers' Trainer, by instar's on packed rows where it takes them, and without.

Loss and gradient norm are the same in all three, whatever the user changed: the methods of the Trainer, the model in
the midst of training, the batches, the loss. Where the three differ, that is a defect; nothing is announced away.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import instar
from tests.api.modifications import ENCODER, batch, made

Rows = list[dict[str, Tensor]]


class Words(nn.Module):
    """No model of Transformers: says a class for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(60, 8), nn.Linear(8, 60)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None) -> Any:
        logits = self.out(self.words(input_ids))
        assert labels is not None
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits}


def t5() -> Any:
    config = transformers.T5Config(
        vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    return {"t5": t5, "module": Words}[name]() if name in ("t5", "module") else made(name)


def steps(name: str) -> Rows:
    """The batches of two steps, each handed over whole."""
    kind = "gpt2" if name in ("t5", "module", "llama") else name
    return [batch(kind, seed) for seed in range(2)]


def run(side: Any, folder: Path, name: str, change: Any, batches: Rows, **options: Any) -> list[float]:
    """Losses and gradient norms of the steps, and the loss of an evaluation after them.

    The evaluation has one batch: of several, the peer's loss is a mean of means.
    """
    arguments = side.TrainingArguments(
        str(folder), max_steps=len(batches), per_device_train_batch_size=1, per_device_eval_batch_size=1,
        learning_rate=0.05, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
        remove_unused_columns=False, dataloader_pin_memory=False,
        **({"train_sampling_strategy": "sequential"} | options),
    )  # fmt: skip
    model = model_of(name)
    with pytest.MonkeyPatch.context() as patch:
        kind, callbacks = change(side, model, patch)
        trainer = kind(
            model, arguments, train_dataset=batches, eval_dataset=batches[:1], data_collator=lambda rows: dict(rows[0]),
            callbacks=callbacks,
        )  # fmt: skip
        getattr(change, "after", lambda one: None)(trainer)
        trainer.train()
        evaluated = trainer.evaluate()["eval_loss"]
    figures = [line[key] for line in trainer.state.log_history if "loss" in line for key in ("loss", "grad_norm")]
    return [*figures, evaluated]


def same(tmp_path: Path, name: str, change: Any, batches: Rows | None = None, **options: Any) -> list[float]:
    batches = steps(name) if batches is None else batches
    stock = run(transformers, tmp_path, name, change, batches, **options)
    plain = run(instar, tmp_path, name, change, batches, fast_path=False, **options)
    fast = run(instar, tmp_path, name, change, batches, **options)
    assert len(stock) == 2 * len(batches) + 1
    assert all(map(math.isfinite, stock))
    assert plain == pytest.approx(stock, rel=2e-4, abs=2e-4)  # logged with four decimals by the peer
    assert fast == pytest.approx(plain, rel=2e-4, abs=2e-4)
    return fast


# ---- what users do ----


def nothing(side: Any, model: Any, patch: Any) -> Any:
    return side.Trainer, []


def subclass(side: Any, model: Any, patch: Any) -> Any:
    class Own(side.Trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: Any = False, num_items_in_batch: Any = None
        ) -> Any:
            outputs = model(**inputs)
            loss = outputs["loss"] * 2 + 1
            return (loss, outputs) if return_outputs else loss

    return Own, []


def doubling(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def doubled(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        return (2 * found[0], *found[1:]) if isinstance(found, tuple) else 2 * found

    return doubled


def decorated(side: Any, model: Any, patch: Any) -> Any:
    class Own(side.Trainer):  # type: ignore[misc]
        compute_loss = doubling(side.Trainer.compute_loss)

    return Own, []


def patched_class(side: Any, model: Any, patch: Any) -> Any:
    patch.setattr(side.Trainer, "compute_loss", doubling(side.Trainer.compute_loss))
    return side.Trainer, []


def on_the_instance(side: Any, model: Any, patch: Any) -> Any:
    return side.Trainer, []


on_the_instance.after = lambda trainer: setattr(trainer, "compute_loss", doubling(trainer.compute_loss))  # type: ignore[attr-defined]


def prepared_inputs(side: Any, model: Any, patch: Any) -> Any:
    class Own(side.Trainer):  # type: ignore[misc]
        def _prepare_inputs(self, inputs: Any) -> Any:
            inputs = super()._prepare_inputs(inputs)
            return {**inputs, "input_ids": inputs["input_ids"].clamp(max=30)}

    return Own, []


def prepared_input_decorated(side: Any, model: Any, patch: Any) -> Any:
    stock = side.Trainer._prepare_input

    @functools.wraps(stock)
    def clamped(self: Any, data: Any) -> Any:
        data = stock(self, data)
        return data.clamp(max=30) if isinstance(data, Tensor) else data

    patch.setattr(side.Trainer, "_prepare_input", clamped)
    return side.Trainer, []


def own_step(side: Any, model: Any, patch: Any) -> Any:
    class Own(side.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            inputs = {**inputs, "input_ids": inputs["input_ids"].clamp(max=30)}
            return super().training_step(model, inputs, num_items_in_batch)

    return Own, []


def loss_amid_training(side: Any, model: Any, patch: Any) -> Any:
    class Swap(side.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            trainer = self.trainer  # type: ignore[attr-defined]
            trainer.compute_loss = doubling(trainer.compute_loss)

    callback = Swap()
    loss_amid_training.after = lambda trainer: setattr(callback, "trainer", trainer)  # type: ignore[attr-defined]
    return side.Trainer, [callback]


def hook_amid_training(side: Any, model: Any, patch: Any) -> Any:
    class Hook(side.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            for module in model.modules():
                if isinstance(module, nn.Linear):
                    module.register_forward_hook(lambda one, args, output: output * 0.5)

    return side.Trainer, [Hook()]


def module_amid_training(side: Any, model: Any, patch: Any) -> Any:
    class Replace(side.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            name, last = [item for item in model.named_modules() if isinstance(item[1], nn.LayerNorm | nn.Linear)][-1]
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, nn.Sequential(last, nn.Tanh()))

    return side.Trainer, [Replace()]


def loss_func(side: Any, model: Any, patch: Any) -> Any:
    def squares(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        logits: Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs.logits
        return logits.float().pow(2).mean()

    return functools.partial(side.Trainer, compute_loss_func=squares), []


CHANGES = (
    nothing,
    subclass,
    decorated,
    patched_class,
    on_the_instance,
    prepared_inputs,
    prepared_input_decorated,
    own_step,
    loss_amid_training,
    hook_amid_training,
    module_amid_training,
    loss_func,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["bert classes", "llama"])
def test_what_users_change(name: str, change: Any, tmp_path: Path) -> None:
    same(tmp_path, name, change)


@pytest.mark.parametrize("change", [nothing, on_the_instance, hook_amid_training], ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["bert mlm", "t5", "module"])
def test_what_users_change_in_other_models(name: str, change: Any, tmp_path: Path) -> None:
    same(tmp_path, name, change)


# ---- batches ----


def left_padding(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.flip(1) if value.ndim > 1 else value for key, value in inputs.items()}


def no_mask(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in inputs.items() if key != "attention_mask"}


def boolean_mask(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"attention_mask": inputs["attention_mask"].bool()}


def gap_in_the_mask(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    mask_DL = inputs["attention_mask"].clone()
    mask_DL[0, 3] = 0
    return inputs | {"attention_mask": mask_DL}


def other_padding(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"input_ids": torch.where(inputs["attention_mask"] > 0, inputs["input_ids"], 7)}


def padding_id_inside(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    ids_DL = inputs["input_ids"].clone()
    ids_DL[0, 4] = 0
    return inputs | {"input_ids": ids_DL}


def labels_on_padding(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    if inputs["labels"].ndim < 2:
        return inputs
    return inputs | {"labels": torch.where(inputs["attention_mask"] == 0, 7, inputs["labels"])}


def column_of_labels(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"labels": inputs["labels"][:, None]} if inputs["labels"].ndim < 2 else inputs


def segments(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"token_type_ids": torch.arange(12).expand(4, 12) % 2}


def positions(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"position_ids": torch.arange(12).flip(0).expand(4, 12)}


def int32(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {key: inputs[key].int() for key in ("input_ids", "attention_mask")}


BATCHES = (
    left_padding, no_mask, boolean_mask, gap_in_the_mask, other_padding, padding_id_inside, labels_on_padding,
    column_of_labels, segments, positions, int32,
)  # fmt: skip


@pytest.mark.parametrize("vary", BATCHES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", ["bert mlm", "gpt2 classes", "llama"])
def test_batches_of_any_kind(name: str, vary: Any, tmp_path: Path) -> None:
    if vary is segments and name == "llama":  # which has none
        return
    same(tmp_path, name, nothing, [vary(one) for one in steps(name)])


def test_a_family_of_its_own_positions(tmp_path: Path) -> None:
    """RoBERTa numbers positions by looking for padding ids, which may stand elsewhere than the mask says."""
    for vary in (other_padding, padding_id_inside, left_padding):
        torch.manual_seed(0)
        config = transformers.RobertaConfig(
            **ENCODER, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=0, num_labels=3
        )
        model = transformers.RobertaForSequenceClassification(config).train()
        inputs = vary(batch("bert classes"))
        expected = model(**inputs).loss.item()
        trainer = instar.Trainer(
            model,
            instar.TrainingArguments(
                str(tmp_path), max_steps=1, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
                disable_tqdm=True, remove_unused_columns=False,
            ),
            train_dataset=[inputs], data_collator=lambda rows: dict(rows[0]),
        )  # fmt: skip
        trainer.train()
        assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=1e-4)
