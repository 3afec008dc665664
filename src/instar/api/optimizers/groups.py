"""Which parameters decay, and the groups that an optimizer is given."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor, nn

_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")


def decay_parameter_names(model: nn.Module) -> list[str]:
    """Names of the parameters that weight decay applies to.

    All but those of nn.LayerNorm modules and those whose lower-cased name says bias or norm at any depth. A shared
    parameter is listed under each of its names, frozen ones too.
    """
    return [name for name in _outside_layer_norms(model) if not _NO_DECAY.search(name.lower())]


def _outside_layer_norms(module: nn.Module) -> Iterator[str]:
    for name, child in module.named_children():
        if not isinstance(child, nn.LayerNorm):
            yield from (f"{name}.{inner}" for inner in _outside_layer_norms(child))
    yield from module._parameters


def parameter_groups(
    model: nn.Module, weight_decay: float, decay_names: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """The groups with decay and without, in this order, of the parameters that are trained; either may be empty.

    `decay_names` is what a subclass's `get_decay_parameter_names` says; by default `decay_parameter_names`. Sharded
    parameters of different device meshes stand in groups of their own, since no one kernel spans two meshes.
    """
    decays = set(decay_parameter_names(model) if decay_names is None else decay_names)
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for name, parameter in trained if name in decays], "weight_decay": weight_decay},
        {"params": [parameter for name, parameter in trained if name not in decays], "weight_decay": 0.0},
    ]
    if len(_by_mesh(parameter for _, parameter in trained)) <= 1:
        return groups
    return [{**group, "params": members} for group in groups for members in _by_mesh(group["params"])]


def _by_mesh(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    meshes: dict[Any, list[Tensor]] = defaultdict(list)
    for parameter in parameters:
        meshes[getattr(parameter, "device_mesh", None)].append(parameter)
    return list(meshes.values())
