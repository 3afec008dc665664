"""Another limit on the length of documents, for saved models whose weights do not depend on it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from instar.core.errors import ConfigError
from instar.model.architecture import position_offset
from instar.model.quiet import quiet


def set_max_length(kind: Any, hf_config: Any, max_length: int) -> None:
    """Let a saved model take documents of `max_length` tokens, specials included, by its configuration.

    Raises ConfigError where the limit is more than a number in the configuration. That is found by comparing the model
    with both limits: every parameter and buffer must have the same shape, and what is computed for the shorter limit
    must be the beginning of what is computed for the longer one.
    """
    old = getattr(hf_config, "max_position_embeddings", None)
    if old is None:
        raise ConfigError([f"model.max_length: a {hf_config.model_type} has no limit of its own; leave it out"])
    offset = position_offset(hf_config.model_type, hf_config.pad_token_id)
    longer = copy.deepcopy(hf_config)
    longer.max_position_embeddings = max_length + offset
    if longer.max_position_embeddings == old:
        return
    before, after = _without_memory(kind, hf_config), _without_memory(kind, longer)
    table = _first_difference(dict(before.named_parameters()), dict(after.named_parameters()))
    if table is not None:
        raise _refusal(
            hf_config, old - offset, max_length, f"{table} holds one learned vector for each position, and no others"
        )
    differing = _computed_otherwise(before, after)
    if differing is not None:
        raise _refusal(hf_config, old - offset, max_length, differing)
    hf_config.max_position_embeddings = longer.max_position_embeddings


def _refusal(hf_config: Any, old: int, new: int, reason: str) -> ConfigError:
    return ConfigError(
        [
            f"model.max_length: expected {old:,}, the limit of this {hf_config.model_type}, got {new:,}: {reason}. "
            f"Leave it out and set data.max_length to at most {old:,} (data.too_long says what becomes of longer "
            "documents), or begin from a model with rotary positions"
        ]
    )


def _without_memory(kind: Any, hf_config: Any) -> nn.Module:
    from transformers.initialization import no_init_weights

    with quiet(), torch.device("meta"), no_init_weights():
        model: nn.Module = kind(copy.deepcopy(hf_config))
    return model


def _first_difference(before: dict[str, Tensor], after: dict[str, Tensor]) -> str | None:
    for name in [*before, *(name for name in after if name not in before)]:
        shapes = [list(named[name].shape) if name in named else None for named in (before, after)]
        if shapes[0] != shapes[1]:
            return f"{name} {shapes[0]}"
    return None


def _computed_otherwise(before: nn.Module, after: nn.Module) -> str | None:
    """What depends on the limit beside parameters, other than by having more entries at its end; None: nothing."""
    saved = set(before.state_dict())
    theirs = dict(after.named_modules())
    for path, module in before.named_modules():
        other = theirs[path]
        if "dynamic" in str(getattr(module, "rope_type", "")):
            return f"{path} scales its rotary positions by the limit (rope_type: {module.rope_type})"
        for name, value in vars(module).items():
            if isinstance(value, float) and value != getattr(other, name, None):
                return f"{path}.{name} is {value:g}, and {getattr(other, name, None)} with that limit"
        for name, mine in _buffers(before, module).items():
            found = _buffers(after, other).get(name)
            full = f"{path}.{name}"
            if found is None or (full in saved and mine.shape != found.shape) or not _agree(mine, found):
                return f"{full} {list(mine.shape)} is computed from the limit"
    return None


def _buffers(model: Any, module: nn.Module) -> dict[str, Tensor]:
    """The module's own buffers, with their values where it has no parameters."""
    if not module._buffers or any(value is not None for value in module._parameters.values()):
        return {name: value for name, value in module._buffers.items() if value is not None}
    if any(value is not None and value.is_meta for value in module._buffers.values()):
        module.to_empty(device="cpu", recurse=False)
        with torch.no_grad():
            for value in module._buffers.values():
                if value is not None:
                    value.zero_()
            model._init_weights(module)
    return {name: value for name, value in module._buffers.items() if value is not None}


def _agree(one: Tensor, other: Tensor) -> bool:
    if one.dim() != other.dim():
        return False
    common = tuple(slice(min(sizes)) for sizes in zip(one.shape, other.shape, strict=True))
    return one.shape == other.shape if one.is_meta else torch.equal(one[common], other[common])
