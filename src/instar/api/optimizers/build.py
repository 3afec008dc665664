"""From a class and keyword arguments to an optimizer over a model's parameters."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import nn

from instar.optim.in_backward import release


def is_optimizer_factory(candidate: Any) -> bool:
    """True for what is not an optimizer class: it is made first, and then called with the model."""
    return not (isinstance(candidate, type) and issubclass(candidate, torch.optim.Optimizer))


def build_optimizer(
    model: nn.Module, found: Any, kwargs: Mapping[str, Any], groups: list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimizer that `optimizer_class_and_kwargs`, or a user's `optimizer_cls_and_kwargs`, describes.

    `groups` are those of `parameter_groups`, unless `kwargs` brings its own as `params` (GaLore), the model itself
    (LOMO), or one optimizer for each parameter as `optimizer_dict`. A factory is called with the model. An earlier
    optimizer that updated these parameters in the backward pass no longer does.
    """
    rest = dict(kwargs)
    release(model.parameters())
    if is_optimizer_factory(found):
        made: torch.optim.Optimizer = found()(model, **rest)
        return made
    over: Any = groups
    for own in ("params", "model", "optimizer_dict"):
        over = rest.pop(own, over)
    optimizer: torch.optim.Optimizer = found(over, **rest)
    if "bitsandbytes" in str(found) and rest.get("optim_bits") == 8:
        _keep_embeddings_whole(model)
    return optimizer


def _keep_embeddings_whole(model: nn.Module) -> None:
    """State of embedding tables stays in 32 bits: their rows' gradients are too uneven for blocks of 8."""
    manager = import_module("bitsandbytes.optim").GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
