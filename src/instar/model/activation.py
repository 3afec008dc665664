"""Activations that Transformers composes of many operations, as one.

`NewGELUActivation` is the tanh form of the GELU (Hendrycks and Gimpel 2016) in eight passes over the data; torch has
the same function in one.
"""

from functools import cache
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from instar.model.specialize import Specialized


def swap_activations(model: nn.Module) -> None:
    """Give every composed tanh GELU inside the code of one operation; results are equal to rounding."""
    from transformers.activations import NewGELUActivation

    for module in model.modules():
        if type(module) is NewGELUActivation:
            module.__class__ = _in_one_pass(NewGELUActivation)  # type: ignore[arg-type]


@cache
def _in_one_pass(composed: Any) -> type:
    def forward(self: Any, input: Tensor) -> Tensor:
        del self
        return F.gelu(input, approximate="tanh")

    namespace = {"forward": forward, "plain": composed, "__module__": composed.__module__}
    return type(composed.__name__, (Specialized, composed), namespace)
