"""How many tokens a batch holds."""

import warnings
from typing import Any

from instar.api.base import TrainerParts


def count_tokens(trainer: TrainerParts, inputs: Any) -> Any:
    """Tokens of a micro-batch, all or without padding, as `include_num_input_tokens_seen` says."""
    name = getattr(trainer.model, "main_input_name", "input_ids")
    if name not in inputs:
        warnings.warn(
            f"include_num_input_tokens_seen: there is no {name!r} in the batch; give the model's class an attribute "
            "`main_input_name`",
            UserWarning,
            stacklevel=2,
        )
        return 0
    if trainer.args.include_num_input_tokens_seen != "non_padding":
        return inputs[name].numel()
    if "attention_mask" in inputs:
        return inputs["attention_mask"].sum()
    padding = getattr(trainer.processing_class, "pad_token_id", None)
    if padding is not None:
        return (inputs[name] != padding).sum()
    warnings.warn(
        "include_num_input_tokens_seen: padding cannot be told, so all tokens are counted", UserWarning, stacklevel=2
    )
    return inputs[name].numel()
