"""Optimizer groups of parameters that one kernel can take together."""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

_PER_PARAMETER = ("params", "names", "param_names")


def cut_groups(optimizer: torch.optim.Optimizer) -> None:
    """Cut each group into groups of the same settings whose parameters are divided over the same processes.

    Kernels over lists of tensors refuse mixed ones. Call it before the first step: state goes by parameter.
    """
    optimizer.param_groups[:] = [part for group in optimizer.param_groups for part in _cut(group)]


def _cut(group: dict[str, Any]) -> list[dict[str, Any]]:
    kinds: dict[object, list[int]] = {}
    for number, parameter in enumerate(group["params"]):
        kinds.setdefault(_processes(parameter), []).append(number)
    if len(kinds) == 1:
        return [group]
    return [
        {key: [value[number] for number in numbers] if key in _PER_PARAMETER else value for key, value in group.items()}
        for numbers in kinds.values()
    ]


def _processes(parameter: Tensor) -> object:
    return parameter.device_mesh if isinstance(parameter, DTensor) else None
