"""The user's model after training: the objects, classes, attributes, hooks and configuration that it had before."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from instar import Trainer, TrainerCallback
from tests.api.training_parts import Tagger, arguments

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
ROWS = [{"input_ids": torch.arange(5, 11 + number % 3), "labels": number % 2} for number in range(8)]


def bert() -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))


def gpt2() -> Any:
    config = transformers.GPT2Config(vocab_size=60, n_embd=16, n_layer=2, n_head=2, pad_token_id=0)
    return transformers.GPT2ForSequenceClassification(config)


def llama() -> Any:
    return transformers.LlamaForSequenceClassification(transformers.LlamaConfig(**SIZES, pad_token_id=0))


def distilbert() -> Any:
    config = transformers.DistilBertConfig(vocab_size=60, dim=16, n_layers=2, n_heads=2, hidden_dim=24)
    return transformers.DistilBertForSequenceClassification(config)


def modernbert() -> Any:
    config = transformers.ModernBertConfig(**SIZES, pad_token_id=0, classifier_dropout=0.1, embedding_dropout=0.1)
    return transformers.ModernBertForSequenceClassification(config)


def electra() -> Any:
    return transformers.ElectraForSequenceClassification(transformers.ElectraConfig(**SIZES, embedding_size=16))


FAMILIES = [bert, gpt2, llama, distilbert, modernbert, electra]


def fingerprint(model: Any) -> Any:
    """All that can be seen of a model's modules but the values of tensors, and its configuration."""
    modules = [
        (name, id(module), type(module), {key: _seen(value) for key, value in vars(module).items()})
        for name, module in model.named_modules()
    ]
    config = {key: value for key, value in model.config.to_dict().items() if key != "problem_type"}  # the model's own
    return modules, config, model.config._attn_implementation


def _seen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: id(entry) for key, entry in value.items()}
    return value if isinstance(value, bool | int | float | str | None) else id(value)


class HaltError(Exception):
    """Nothing but a callback raises it."""


class Trouble(TrainerCallback):
    """Raises in the middle of training."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            raise self.error


def trained(model: Any, folder: Path, *callbacks: TrainerCallback, **options: Any) -> Trainer:
    options = {"max_steps": 3, "per_device_train_batch_size": 2, **options}
    collator = transformers.DataCollatorWithPadding(_Padder())
    return Trainer(model, arguments(folder, **options), collator, ROWS, callbacks=list(callbacks))


class _Padder:
    """As much of a tokenizer as a collator needs."""

    padding_side = "right"

    def __init__(self) -> None:
        self.deprecation_warnings: dict[str, bool] = {}

    def pad(self, rows: list[dict[str, Any]], **_: Any) -> dict[str, torch.Tensor]:
        ids = [row["input_ids"] for row in rows]
        masks = [torch.ones_like(row) for row in ids]
        padded = {
            name: nn.utils.rnn.pad_sequence(found, batch_first=True)
            for name, found in (("input_ids", ids), ("attention_mask", masks))
        }
        return padded | {"labels": torch.tensor([int(row["labels"]) for row in rows])}


@pytest.mark.parametrize("make", FAMILIES)
def test_a_model_is_left_as_it_was_found(make: Callable[[], Any], tmp_path: Path) -> None:
    model = make()
    tried = trained(model, tmp_path)
    model.train()
    before = fingerprint(model)
    packed = []

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            packed.append(tried._fast_path is not None)
            pickle.loads(pickle.dumps(kwargs["model"]))

    tried.add_callback(Look())
    tried.train()
    assert all(packed)
    assert fingerprint(model) == before
    torch.save(model, io.BytesIO())
    for error in (HaltError, KeyboardInterrupt):
        with pytest.raises(error):
            trained(model, tmp_path, Trouble(error)).train()
        assert fingerprint(model) == before


@pytest.mark.parametrize(
    "options",
    [
        {"neftune_noise_alpha": 5.0},
        {"activation_checkpointing": True},
        {"fast_path": False},
    ],
)
def test_what_arguments_change_is_undone(options: dict[str, Any], tmp_path: Path) -> None:
    model = bert()
    tried = trained(model, tmp_path, Trouble(HaltError), **options)
    before = fingerprint(model.train())
    with pytest.raises(HaltError):
        tried.train()
    assert fingerprint(model) == before


def test_what_the_user_changed_meanwhile_stays(tmp_path: Path) -> None:
    class Swap(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            kwargs["model"].dropout = mine
            held.p = 0.4

    model = bert()
    mine, held = nn.Dropout(0.3), model.bert.embeddings.dropout
    trained(model, tmp_path, Swap()).train()
    assert model.dropout is mine
    assert model.bert.embeddings.dropout is held
    assert (type(held), held.p) == (nn.Dropout, 0.4)


def test_a_dropout_that_the_user_holds_is_the_one_that_acts(tmp_path: Path) -> None:
    seen: list[float] = []

    class Look(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            held.p = 0.0 if state.global_step else 0.9

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ids = ROWS[0]["input_ids"][None]
            seen.append(float(model.bert.embeddings(ids).count_nonzero()))

    model = bert()
    held = model.bert.embeddings.dropout
    trained(model, tmp_path, Look()).train()
    assert seen[0] < min(seen[1:]) / 2


@pytest.mark.parametrize("fast_path", [True, False])
def test_a_part_that_a_callback_put_into_evaluation_trains_again(tmp_path: Path, fast_path: bool) -> None:  # noqa: FBT001
    seen: list[bool] = []

    class Look(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            model.bert.eval()

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(all(module.training for module in model.modules()))

    model = bert()
    trained(model, tmp_path, Look(), fast_path=fast_path).train()
    assert seen == [True] * 3


def test_frozen_modes_of_an_overridden_train_stay(tmp_path: Path) -> None:
    class Frozen(Tagger):
        def train(self, mode: bool = True) -> "Frozen":  # noqa: FBT001
            super().train(mode)
            self.drop.eval()
            return self

    seen: list[bool] = []

    class Look(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seen.append(kwargs["model"].drop.training)

    from tests.api.training_parts import trainer

    trainer(tmp_path, model=Frozen(), callbacks=[Look()], max_steps=2).train()
    assert seen == [False, False]
