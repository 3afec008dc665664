"""Which Transformers class carries a head."""

from typing import Any, Literal

from instar.core.errors import ConfigError

Head = Literal["masked_lm", "causal_lm", "classify"]
Pooling = Literal["first", "mean", "last"]
"""What a head of whole documents reads."""
_ENDINGS: dict[str, Head] = {
    "ForMaskedLM": "masked_lm",
    "ForCausalLM": "causal_lm",
    "LMHeadModel": "causal_lm",
    "ForSequenceClassification": "classify",
}


def head_of_architecture(name: str) -> Head | None:
    """The head of a class of Transformers by the end of its name; None: another, or none."""
    return next((head for ending, head in _ENDINGS.items() if name.endswith(ending)), None)


def model_class(hf_config: Any, head: str) -> Any:
    """The class for "masked_lm", "causal_lm" or "classify"; ConfigError where the architecture has none.

    A masked architecture asked for a causal head becomes a decoder.
    """
    import transformers

    autos = {
        "masked_lm": transformers.AutoModelForMaskedLM,
        "causal_lm": transformers.AutoModelForCausalLM,
        "classify": transformers.AutoModelForSequenceClassification,
    }
    classes = autos[head]._model_mapping
    if type(hf_config) not in classes:
        others = [name for name, auto in autos.items() if type(hf_config) in auto._model_mapping]
        raise ConfigError([f"model: {hf_config.model_type} has no {head} head, only {', '.join(others) or 'none'}"])
    if hasattr(hf_config, "is_decoder"):
        hf_config.is_decoder = head == "causal_lm"
    chosen = classes[type(hf_config)]
    return chosen[0] if isinstance(chosen, tuple) else chosen


def is_causal(model_type: str) -> bool:
    """True for an architecture that only ever reads forward, like gpt2 and llama: its texts have an end mark alone."""
    from transformers.models.auto import modeling_auto as auto

    return model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and (
        model_type not in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
