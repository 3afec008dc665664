"""The fast path's loss and gradients are those of the model's own forward pass on the padded batch.

Shape letters: D documents, L longest document.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import nn

from instar import Trainer, TrainingArguments
from instar.api.fast_path import FastPath, _obstacle
from instar.model.adopt import adopt, head_of
from tests.api.training_parts import arguments

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
ENCODER = SIZES | {"intermediate_size": 32, "max_position_embeddings": 40}
DISTIL = {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 40}
GPT = {
    "vocab_size": 60,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 40,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
MODELS = {
    "bert mlm": (transformers.BertForMaskedLM, transformers.BertConfig(**ENCODER)),
    "bert classes": (transformers.BertForSequenceClassification, transformers.BertConfig(**ENCODER, num_labels=3)),
    "roberta mlm": (transformers.RobertaForMaskedLM, transformers.RobertaConfig(**ENCODER, pad_token_id=0)),
    "distilbert mlm": (transformers.DistilBertForMaskedLM, transformers.DistilBertConfig(**DISTIL)),
    "distilbert classes": (
        transformers.DistilBertForSequenceClassification,
        transformers.DistilBertConfig(**DISTIL, num_labels=3),
    ),
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(**GPT)),
    "gpt2 classes": (
        transformers.GPT2ForSequenceClassification,
        transformers.GPT2Config(**GPT, num_labels=3, pad_token_id=0),
    ),
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig(**ENCODER)),
}


def made(name):
    kind, config = MODELS[name]
    torch.manual_seed(0)
    model = kind(type(config)(**config.to_dict()))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for attribute in ("dropout_prob", "attention_dropout", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
    return model.train()


def batch(head, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths_D = torch.tensor([9, 3, 12, 1])
    real_DL = torch.arange(12) < lengths_D[:, None]
    ids_DL = torch.randint(5, 60, (4, 12), generator=generator) * real_DL
    inputs = {"input_ids": ids_DL, "attention_mask": real_DL.long()}
    if head == "classify":
        return inputs | {"labels": torch.tensor([0, 2, 1, 1])}
    chosen_DL = real_DL if head == "causal_lm" else real_DL & (torch.rand(4, 12, generator=generator) < 0.4)
    chosen_DL[:, 0] = True  # a batch without targets has no mean
    return inputs | {"labels": torch.where(chosen_DL, torch.randint(5, 60, (4, 12), generator=generator), -100)}


def trainer(model, **changed):
    """A trainer about to train the model; `changed` are arguments, or attributes set on the trainer."""
    fields = TrainingArguments.__dataclass_fields__
    options = {name: changed.pop(name) for name in list(changed) if name in fields}
    ready = Trainer(model=model, args=arguments(Path("nowhere"), **options))
    vars(ready).update(changed)
    ready._inspect_overrides()
    return ready


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("num_items", [None, 50])
def test_equals_the_model(name, num_items):
    plain, fast = made(name), made(name)
    inputs = batch(head_of(plain))
    share = 1 if num_items is None else count(inputs, head_of(plain)) / num_items
    wanted = plain(**inputs).loss * share
    wanted.backward()
    path = FastPath.of(trainer(fast))
    got = path.loss(inputs, num_items)
    got.backward()
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    gradients = dict(fast.named_parameters())
    for key, parameter in plain.named_parameters():
        mine = gradients[key].grad
        if parameter.grad is None or mine is None:
            assert parameter.grad is None or not parameter.grad.any(), key
            continue
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-6, msg=key)


def count(inputs, head):
    labels = inputs["labels"]
    return (labels[:, 1:] != -100).sum() if head == "causal_lm" else (labels != -100).sum()


@pytest.mark.parametrize("name", MODELS)
def test_padded_batches_are_computed_as_before(name):
    plain, fast = made(name).eval(), made(name).eval()
    inputs = batch(head_of(plain))
    path = FastPath.of(trainer(fast))
    path.loss(inputs)
    with torch.no_grad():
        torch.testing.assert_close(fast(**inputs).logits, plain(**inputs).logits, rtol=1e-5, atol=1e-6)
    assert [key for key, _ in fast.named_parameters()] == [key for key, _ in plain.named_parameters()]


def test_segments_are_told_apart():
    plain, fast = made("bert classes"), made("bert classes")
    for model in (plain, fast):
        torch.manual_seed(1)
        for large in (model.bert.embeddings.token_type_embeddings, model.classifier):
            nn.init.normal_(large.weight)
    inputs = batch("classify") | {"token_type_ids": torch.arange(12).expand(4, 12) // 2 % 2}
    wanted = plain(**inputs).loss
    assert (wanted - plain(**batch("classify")).loss).abs() > 1e-6
    torch.testing.assert_close(FastPath.of(trainer(fast)).loss(inputs), wanted, rtol=1e-5, atol=1e-6)


def spoilt(case):
    inputs = batch("masked_lm")
    if case == "left padding":
        return {key: value.flip(1) for key, value in inputs.items()}
    if case == "labels on padding":
        return inputs | {"labels": torch.where(inputs["attention_mask"] == 0, 7, inputs["labels"])}
    if case == "an empty row":
        return inputs | {"attention_mask": inputs["attention_mask"] * torch.tensor([[1], [0], [1], [1]])}
    if case == "other inputs":
        return inputs | {"inputs_embeds": torch.zeros(4, 12, 16)}
    if case == "no targets":
        return inputs | {"labels": torch.full_like(inputs["labels"], -100)}
    return {key: value for key, value in inputs.items() if key != "labels"}


@pytest.mark.parametrize(
    "case", ["left padding", "labels on padding", "an empty row", "other inputs", "no targets", "no labels"]
)
def test_what_it_cannot_stand_for_goes_the_plain_way(case):
    assert FastPath.of(trainer(made("bert mlm"))).loss(spoilt(case)) is None


def test_padding_ids_inside_a_text_go_the_plain_way_where_the_model_looks_for_them():
    inputs = batch("masked_lm")
    inputs["input_ids"][0, 4] = 0
    assert FastPath.of(trainer(made("roberta mlm"))).loss(inputs) is None
    assert FastPath.of(trainer(made("bert mlm"))).loss(inputs) is not None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"compute_loss_func": print}, "compute_loss_func"),
        ({"label_smoother": object()}, "smoothing"),
        ({"neftune_noise_alpha": 5.0}, "NEFTune"),
        ({"torch_compile": True}, "compile"),
        ({"runtime": SimpleNamespace(world_size=2)}, "processes"),
    ],
)
def test_whoever_changes_the_loss_keeps_the_plain_way(changed, said, caplog):
    assert said in _obstacle(trainer(made("bert mlm"), **changed))
    assert FastPath.of(trainer(made("bert mlm"), **changed)) is None


def test_it_can_be_turned_off():
    assert FastPath.of(trainer(made("bert mlm"), fast_path=False)) is None


def test_other_models_are_left_alone():
    model = nn.Linear(2, 2)
    model.config = SimpleNamespace(model_type="bert")
    assert FastPath.of(trainer(model)) is None
    assert adopt(transformers.BertModel(transformers.BertConfig(**ENCODER))) is None


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("name", ["bert mlm", "distilbert classes", "gpt2"])
def test_a_trainer_makes_the_same_steps_with_and_without_it(name, accumulation, tmp_path, caplog):
    def trained(*, fast_path):
        model = made(name)
        rows = [
            {
                key: value[row][: int(inputs["attention_mask"][row].sum())] if value.ndim > 1 else value[row]
                for key, value in inputs.items()
            }
            for inputs in (batch(head_of(model), seed=seed) for seed in range(6))
            for row in range(4)
        ]
        arguments = TrainingArguments(
            str(tmp_path / str(fast_path)), per_device_train_batch_size=2, gradient_accumulation_steps=accumulation,
            max_steps=4, learning_rate=1e-2, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True,
            disable_tqdm=True, fast_path=fast_path,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=padded)
        trainer.train()
        assert trainer._fast_path is None
        return [line["loss"] for line in trainer.state.log_history if "loss" in line], model

    wanted, plain = trained(fast_path=False)
    got, fast = trained(fast_path=True)
    assert len(got) == 4
    assert got == pytest.approx(wanted, abs=2e-4)  # logged with four decimals
    for (key, one), (_, other) in zip(plain.named_parameters(), fast.named_parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-4, msg=key)


def padded(rows):
    filled = {}
    for key in rows[0]:
        values = [row[key] for row in rows]
        fill = -100 if key == "labels" else 0
        filled[key] = (
            nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=fill)
            if values[0].ndim
            else torch.stack(values)
        )
    return filled
