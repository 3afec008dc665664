"""Activations that Transformers composes of many operations, as one.

`NewGELUActivation` is the tanh form of the GELU (Hendrycks and Gimpel 2016) in eight passes over the data; torch has
the same function in one.
"""

from torch import nn


def swap_activations(model: nn.Module) -> None:
    """Replace every composed tanh GELU inside; results are equal to rounding."""
    from transformers.activations import NewGELUActivation

    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, nn.GELU(approximate="tanh"))
