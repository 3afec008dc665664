"""From our few names to a Transformers configuration of any architecture, strictly."""

import dataclasses
from typing import Any, Protocol

from instar.model.config import FromConfig, did_you_mean

_FEED_FORWARD = ("intermediate_size", "n_inner", "hidden_dim", "ffn_dim")
_NOT_YOURS = frozenset(
    [
        "vocab_size",
        "num_labels",
        "id2label",
        "label2id",
        "problem_type",
        "architectures",
        "dtype",
        "transformers_version",
        "is_decoder",
        "output_hidden_states",
        "return_dict",
        "use_cache",
        "is_encoder_decoder",
        "add_cross_attention",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "cls_token_id",
        "sep_token_id",
    ]
)
"""Fields that follow from the task and the tokenizer."""

_OFFSET_FAMILIES = frozenset({"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "esm"})
"""Families whose positions start after the padding id."""


class Vocabulary(Protocol):
    """What a network must know of the tokenizer."""

    vocab_size: int
    pad_id: int | None
    cls_id: int | None
    sep_id: int | None
    mask_id: int | None
    bos_id: int | None
    eos_id: int | None


def problems_of(config: FromConfig) -> list[str]:
    """Every fault of a model section, each with the nearest right name; empty if there is none."""
    classes = _classes()
    if config.config not in classes:
        near = did_you_mean(config.config, list(classes))
        return [f"config: wanted a Transformers architecture (bert, gpt2, llama, ...), got {config.config!r}{near}"]
    known = _field_names(classes[config.config])
    ours = [name for name in FromConfig.model_fields if name != "config"]
    problems = []
    for name in config.fields:
        if name in _NOT_YOURS:
            problems.append(f"{name}: follows from the task and the tokenizer; leave it out")
        elif name not in known:
            near = did_you_mean(name, [*ours, *(other for other in known if other not in _NOT_YOURS)])
            problems.append(f"{name}: {config.config} has no such field{near}")
    width, heads = config.hidden_size or 256, config.num_heads
    if heads and width % heads:
        problems.append(f"num_heads: wanted a divisor of hidden_size {width}, got {heads}")
    return problems


def architecture(config: FromConfig, vocabulary: Vocabulary) -> Any:
    """The Transformers configuration; raises ConfigError for values the architecture refuses."""
    from instar.core.errors import ConfigError

    kind = _classes()[config.config]
    known = _field_names(kind)
    width = config.hidden_size or 256
    heads = config.num_heads or max(1, width // 64)
    fields: dict[str, Any] = {
        "vocab_size": vocabulary.vocab_size,
        "hidden_size": width,
        "num_hidden_layers": config.num_layers or 4,
        "num_attention_heads": heads,
        "max_position_embeddings": (config.max_length or 512) + position_offset(config.config, vocabulary.pad_id or 0),
        **special_ids(vocabulary),
    }
    feed_forward = [name for name in _FEED_FORWARD if name in known]
    if feed_forward:
        fields[feed_forward[0]] = config.intermediate_size or 4 * width
    if "num_key_value_heads" in known:
        fields["num_key_value_heads"] = heads
    if "embedding_size" in known and config.config == "electra":
        fields["embedding_size"] = width
    if "head_dim" in known and config.config != "llama":
        fields["head_dim"] = width // heads
    fields = {name: value for name, value in fields.items() if name in known or name.endswith("_token_id")}
    fields |= config.fields
    if config.dropout is not None:
        fields |= dict.fromkeys(_dropouts(kind), config.dropout)
    try:
        made = kind(**fields)
    except Exception as error:  # noqa: BLE001  Transformers' checks raise many kinds
        reason = " ".join(str(error).split())
        raise ConfigError([f"model: {config.config} refuses these values: {reason}"]) from None
    if getattr(made, "is_encoder_decoder", False) and getattr(made, "decoder_start_token_id", None) is None:
        raise ConfigError(
            [f"model: {config.config} has a decoder beside its encoder; wanted one of the two, like bert or gpt2"]
        )
    return made


def set_dropout(hf_config: Any, rate: float) -> None:
    """Give every dropout of a configuration this rate."""
    for name in _dropouts(type(hf_config)):
        setattr(hf_config, name, rate)


def special_ids(vocabulary: Vocabulary) -> dict[str, int | None]:
    """The special tokens as Transformers names them."""
    begin = vocabulary.cls_id if vocabulary.bos_id is None else vocabulary.bos_id
    end = vocabulary.sep_id if vocabulary.eos_id is None else vocabulary.eos_id
    ids = {"pad_token_id": vocabulary.pad_id, "bos_token_id": begin, "eos_token_id": end}
    return ids | {"cls_token_id": vocabulary.cls_id, "sep_token_id": vocabulary.sep_id}


def position_offset(family: str, pad_id: int | None) -> int:
    """The number of the first position: 0, or after the padding id in RoBERTa's family."""
    return (0 if pad_id is None else pad_id) + 1 if family in _OFFSET_FAMILIES else 0


def _classes() -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING


def _field_names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)] + list(kind.attribute_map)


def _dropouts(kind: Any) -> list[str]:
    named = [field.name for field in dataclasses.fields(kind)]
    return [name for name in named if ("dropout" in name or name.endswith("_pdrop")) and name != "classifier_dropout"]
