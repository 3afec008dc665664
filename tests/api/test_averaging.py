"""A loss is one number in training, in evaluation within training, in `evaluate()` and by the model itself.

Letters: B rows, T tokens, V classes.
"""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from instar import Trainer, TrainingArguments
from instar.api.averaging import Average, averaged_over

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
OTHER_SIZES = {
    "d_model": 16, "n_embd": 16, "dim": 16, "hidden_dim": 32, "n_layer": 1, "n_layers": 1, "n_head": 2, "n_heads": 2,
    "num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 8, "d_inner": 32, "ffn_dim": 32, "encoder_layers": 1,
    "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32, "num_key_value_heads": 1, "head_dim": 8, "embedding_size": 16, "max_position_embeddings": 64,
    "n_positions": 64, "num_decoder_layers": 1, "emb_dim": 16, "word_embed_proj_dim": 16, "num_local_experts": 2,
    "num_experts": 2, "num_experts_per_tok": 1, "kv_n_heads": 1, "rotary_dim": 4,
}  # fmt: skip
GENERATION = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 0, "cls_token_id": 1}
FAMILIES = {
    "CausalLM": "gpt2 gpt_neo gpt_neox gptj opt bloom llama mistral qwen2 qwen3 gemma phi mpt olmo stablelm "
    "starcoder2 gpt_bigcode biogpt xglm falcon cohere bart mixtral",
    "MaskedLM": "bert roberta distilbert electra albert modernbert deberta deberta-v2 xlm-roberta mpnet camembert esm",
    "SequenceClassification": "bert roberta distilbert gpt2 llama electra modernbert deberta-v2",
    "TokenClassification": "bert roberta distilbert electra gpt2 llama",
    "Seq2SeqLM": "t5 bart mbart pegasus marian m2m_100 mt5 blenderbot",
    "QuestionAnswering": "bert roberta distilbert electra",
    "MultipleChoice": "bert roberta distilbert",
}
CASES = [(task, family) for task, families in FAMILIES.items() for family in families.split()]


def made(task: str, family: str) -> Any:
    """A small model of the family, without dropout."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[family]
    fields = getattr(kind, "__dataclass_fields__", {})
    known = {*fields, *kind.attribute_map, *GENERATION}
    values = {name: value for name, value in (OTHER_SIZES | SIZES | GENERATION).items() if name in known}
    values |= {name: 0.0 for name in fields if "drop" in name and isinstance(fields[name].default, float)}
    values |= {"gpt_neo": {"attention_types": [[["global"], 1]]}, "deberta": {}}.get(family, {})
    torch.manual_seed(0)
    auto = getattr(transformers, f"AutoModelFor{task}")
    model = auto.from_config(kind(**values))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    for parameter in model.parameters():  # so that losses of other labels are other numbers
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return model


def rows(task: str) -> list[dict[str, Tensor]]:
    """Four samples of one length, with uneven targets."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for number in range(4):
        ids_T = torch.randint(5, 60, (9,), generator=generator)
        row = {"input_ids": ids_T, "attention_mask": torch.ones(9, dtype=torch.int64)}
        if task in ("CausalLM", "Seq2SeqLM"):
            labels: Any = torch.where(torch.arange(9) < 9 - number, ids_T, -100)
        elif task == "MaskedLM":
            labels = torch.where(torch.rand(9, generator=generator) < 0.4, ids_T, -100)
        elif task == "TokenClassification":
            labels = torch.where(torch.arange(9) < 9 - number, ids_T % 2, -100)
        else:
            labels = torch.tensor(number % 2)
        if task == "QuestionAnswering":
            made.append(row | {"start_positions": torch.tensor(number), "end_positions": torch.tensor(number + 2)})
            continue
        if task == "MultipleChoice":
            row = {name: torch.stack([value, value.flip(0)]) for name, value in row.items()}
        made.append(row | {"labels": labels})
    return made


def stacked(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def figures(folder: Path, model: Any, samples: Any, **options: Any) -> list[float]:
    """First loss of training, of an evaluation within it, and of `evaluate()`, with weights that stay as they are."""
    arguments = TrainingArguments(
        str(folder), max_steps=1, learning_rate=0.0, logging_steps=1, eval_strategy="steps", eval_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, train_sampling_strategy="sequential",
        **({"per_device_train_batch_size": 4, "per_device_eval_batch_size": 4} | options),
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=samples, eval_dataset=samples, data_collator=stacked)
    trainer.train()
    logged = trainer.state.log_history
    first = next(line["loss"] for line in logged if "loss" in line)
    within = next(line["eval_loss"] for line in logged if "eval_loss" in line)
    return [first, within, trainer.evaluate()["eval_loss"]]


@pytest.mark.parametrize(("task", "family"), CASES)
def test_one_loss_for_every_family(task: str, family: str, tmp_path: Path) -> None:
    model, samples = made(task, family), rows(task)
    with torch.no_grad():
        own = model.train()(**stacked(samples)).loss.item()
    assert math.isfinite(own)
    assert figures(tmp_path, model, samples) == pytest.approx([own] * 3, rel=1e-4)
    if family != "mixtral":  # whose losses of experts are means over a batch
        assert figures(tmp_path, model, samples, per_device_train_batch_size=1, gradient_accumulation_steps=4,
                       per_device_eval_batch_size=1) == pytest.approx([own] * 3, rel=1e-4)  # fmt: skip


class Own(nn.Module):
    """A module whose loss is any function of its logits and labels."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.loss = nn.Embedding(60, 7), loss

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, attention_mask: Tensor | None = None) -> Any:
        logits = self.words(input_ids)
        if labels is None:
            return {"logits": logits}
        return {"loss": self.loss(logits, labels, self.words.weight), "logits": logits}


def flat(logits_BTV: Tensor, labels_BT: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(logits_BTV.flatten(0, 1), labels_BT.flatten(), **options)


def per_sequence(logits_BTV: Tensor, labels_BT: Tensor, weight: Tensor) -> Tensor:
    return torch.stack([flat(one[None], two[None]) for one, two in zip(logits_BTV, labels_BT, strict=True)]).mean()


LOSSES = {
    "over labels": (lambda logits, labels, weight: flat(logits, labels), Average.LABELS),
    "over shifted labels": (lambda logits, labels, weight: flat(logits[:, :-1], labels[:, 1:]), Average.SHIFTED),
    "over sequences": (per_sequence, Average.BATCH),
    "another label is passed over": (
        lambda logits, labels, weight: flat(logits, labels.clamp_min(0), ignore_index=0),
        Average.BATCH,
    ),
    "with a penalty": (lambda logits, labels, weight: flat(logits, labels) + 0.1 * weight.pow(2).mean(), Average.BATCH),
    "smoothed": (lambda logits, labels, weight: flat(logits, labels, label_smoothing=0.2), Average.BATCH),
    "a sum": (lambda logits, labels, weight: flat(logits, labels, reduction="sum"), Average.BATCH),
    "without labels": (lambda logits, labels, weight: logits.pow(2).mean(), Average.BATCH),
}  # fmt: skip


def words(task: str = "TokenClassification") -> list[dict[str, Tensor]]:
    return [{name: value for name, value in row.items() if name != "attention_mask"} for row in rows(task)]


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_averages_is_found(name: str) -> None:
    function, expected = LOSSES[name]
    inputs = stacked(words())
    model = Own(function)
    outputs = model(**inputs)
    assert averaged_over(outputs["loss"], outputs, inputs) == expected
    assert averaged_over(outputs["loss"], (outputs["loss"], outputs["logits"]), inputs) == expected
    assert averaged_over(outputs["loss"], {"loss": outputs["loss"]}, inputs) == Average.BATCH  # nothing to look at


@pytest.mark.parametrize("name", LOSSES)
def test_accumulation_weighs_by_what_the_loss_averages(name: str, tmp_path: Path) -> None:
    """By labels, the loss of the whole; else the mean of the micro-batches' losses, as they are."""
    function, average = LOSSES[name]
    model, samples = Own(function), words()
    with torch.no_grad():
        whole = model(**stacked(samples))["loss"].item()
        each = [model(**stacked([one]))["loss"].item() for one in samples]
    expected = sum(each) / 4 if average is Average.BATCH else whole
    found = figures(tmp_path, model, samples, per_device_train_batch_size=1, gradient_accumulation_steps=4,
                    per_device_eval_batch_size=1)  # fmt: skip
    assert found == pytest.approx([expected] * 3, rel=1e-5)


def strictly(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Passes over label 0; any label that is no class is an error, -100 among them."""
    return flat(logits, labels, ignore_index=0)


def padded_with_zeros(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    return {
        name: nn.utils.rnn.pad_sequence([sample[name] for sample in samples], batch_first=True) for name in samples[0]
    }


def test_a_model_that_refuses_the_label_for_padding_is_trained_as_it_is(tmp_path: Path) -> None:
    """Rows of unequal lengths, one in a batch: to look at them together, they would be padded with -100."""
    samples = [
        {"input_ids": torch.arange(1, length), "labels": torch.arange(1, length) % 6 + 1} for length in (8, 3, 6, 5)
    ]
    model = Own(strictly)
    with torch.no_grad():
        each = [model(**padded_with_zeros([one]))["loss"].item() for one in samples]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=1, learning_rate=0.0, logging_steps=1, per_device_train_batch_size=1,
        per_device_eval_batch_size=1, gradient_accumulation_steps=4, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=samples, eval_dataset=samples, data_collator=padded_with_zeros
    )  # fmt: skip
    trainer.train()
    found = [trainer.state.log_history[0]["loss"], trainer.evaluate()["eval_loss"]]
    assert found == pytest.approx([sum(each) / 4] * 2, rel=1e-5)


def test_a_loss_function_that_takes_no_number_of_targets_is_a_mean_over_micro_batches(tmp_path: Path) -> None:
    model, samples = Own(LOSSES["over labels"][0]), words()
    with torch.no_grad():
        each = [model(**stacked([one]))["loss"].item() for one in samples]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=1, learning_rate=0.0, logging_steps=1, per_device_train_batch_size=1,
        gradient_accumulation_steps=4, save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=samples, data_collator=stacked,
        compute_loss_func=lambda outputs, labels: flat(outputs["logits"], labels),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(sum(each) / 4, rel=1e-5)


@pytest.mark.parametrize("kind", [F.mse_loss, F.binary_cross_entropy_with_logits, F.l1_loss])
def test_losses_of_real_labels(kind: Any) -> None:
    labels = torch.rand(4, 9, 7)
    inputs = {"input_ids": torch.randint(0, 60, (4, 9)), "labels": labels}
    outputs = Own(lambda logits, labels, weight: kind(logits, labels))(**inputs)
    expected = Average.BATCH if kind is F.l1_loss else Average.VALUES
    assert averaged_over(outputs["loss"], outputs, inputs) == expected


def test_a_batch_that_cannot_tell() -> None:
    inputs = stacked(words())
    inputs["labels"] = torch.full_like(inputs["labels"], -100)
    outputs = Own(LOSSES["over labels"][0])(**inputs)
    assert averaged_over(outputs["loss"], outputs, inputs) is None  # not a number
    outputs = Own(LOSSES["without labels"][0])(**inputs)
    assert averaged_over(outputs["loss"], outputs, inputs) == Average.BATCH  # a number without a target


def test_the_expert_losses_of_a_mixture_are_weighed_by_micro_batches(tmp_path: Path, caplog: Any) -> None:
    model = made("CausalLM", "mixtral")
    model.config.output_router_logits, model.router_aux_loss_coef = True, 0.5
    samples = rows("CausalLM")
    with torch.no_grad():
        each = [model.train()(**stacked([one])).loss.item() for one in samples]
    found = figures(tmp_path, model, samples, per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert found[0] == pytest.approx(sum(each) / 4, rel=1e-4)
    assert "no mean over the labels" in caplog.text


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_tokens_that_prompt_tuning_adds(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    for family in ("gpt2", "llama"):
        base = made("CausalLM", family)
        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model, samples = peft.get_peft_model(base, config), rows("CausalLM")
        with torch.no_grad():
            own = model.train()(**stacked(samples)).loss.item()
        assert figures(tmp_path, model, samples) == pytest.approx([own] * 3, rel=1e-4)


def without_targets(number: int) -> list[dict[str, Tensor]]:
    """Four samples of which all but the first `number` have no target."""
    samples = words()
    for row in samples[number:]:
        row["labels"] = torch.full_like(row["labels"], -100)
    return samples


@pytest.mark.parametrize("accumulated", [1, 4])
@pytest.mark.parametrize("number", [1, 3])
def test_micro_batches_without_targets_weigh_nothing(number: int, accumulated: int, tmp_path: Path) -> None:
    model = Own(LOSSES["over labels"][0])
    samples = without_targets(number)
    with torch.no_grad():
        own = model(**stacked(samples[:number]))["loss"].item()
    before = model.words.weight.detach().clone()
    arguments = TrainingArguments(
        str(tmp_path), max_steps=4 // accumulated, logging_steps=4 // accumulated, learning_rate=0.0,
        per_device_train_batch_size=1, gradient_accumulation_steps=accumulated, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=samples, data_collator=stacked)
    output = trainer.train()
    each = [model(**stacked([one]))["loss"].item() for one in samples[:number]]
    expected = own if accumulated == 4 else sum(each) / number  # a log is a mean over the steps that had a target
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert output.training_loss == pytest.approx(expected, rel=1e-5)
    assert torch.equal(model.words.weight, before)


def test_a_default_loss_is_not_told_as_trouble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging

    logging.Logger.warning_once.cache_clear()  # type: ignore[attr-defined]
    logger = logging.getLogger("transformers")
    handler_level, logger.propagate = logger.level, True
    try:
        figures(tmp_path, made("CausalLM", "gpt2"), rows("CausalLM"))
    finally:
        logger.setLevel(handler_level)
        logger.propagate = False
    assert "unrecognized" not in caplog.text
