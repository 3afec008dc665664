"""Fresh weights: each tensor's are a function of the seed and its name, whatever else the model holds."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from instar.core.seeds import derive

_RESIDUAL = ("c_proj", "o_proj", "down_proj", "Wo", "out_proj", "fc2", "dense_4h_to_h")
"""Projections that end a residual branch in families that normalise before it."""


def initialise(model: Any, seed: int, names: set[str] | None = None) -> None:
    """N(0, initializer_range) for matrices, scaled by 1/sqrt(2 layers) where a decoder's branch ends; zero biases.

    Norms start at one. Only the tensors in `names` if given. Other tensors (a family's own scalars) stay as they are.
    """
    std = float(getattr(model.config, "initializer_range", 0.02))
    layers = int(getattr(model.config, "num_hidden_layers", 1))
    is_pre_norm = model.config.model_type not in _POST_NORM
    for module_name, module in model.named_modules(remove_duplicate=True):
        for name, parameter in module.named_parameters(recurse=False):
            full = f"{module_name}.{name}" if module_name else name
            if names is not None and full not in names:
                continue
            ends_branch = is_pre_norm and module_name.rpartition(".")[2] in _RESIDUAL
            _fill(module, parameter, std / math.sqrt(2 * layers) if ends_branch else std, derive(seed, "init", full))


_POST_NORM = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert"})


@torch.no_grad()
def _fill(module: nn.Module, parameter: Tensor, std: float, seed: int) -> None:
    if parameter.ndim >= 2:
        values = torch.empty(parameter.shape).normal_(0.0, std, generator=torch.Generator().manual_seed(seed))
        parameter.copy_(values)
        padding = getattr(module, "padding_idx", None)
        if isinstance(module, nn.Embedding) and padding is not None:
            parameter[padding].zero_()
    elif "norm" in type(module).__name__.lower() and parameter is getattr(module, "weight", None):
        parameter.fill_(1.0)
    elif parameter is getattr(module, "bias", None):
        parameter.zero_()
