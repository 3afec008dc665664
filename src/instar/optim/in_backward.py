"""Optimizers that change the weights while gradients are made, so that no two gradients exist at once.

With them a backward pass is the update. Whoever runs the step therefore

- runs one backward pass for a step: micro-batches would be steps of their own,
- neither clips nor measures gradients, and uses no loss scaler: there are none after the pass,
- looks at the loss to tell a step that is not finite; gradients that are not move no weight all the same,
- still calls `step()` and `zero_grad()`, which end the step and count it.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_CLAIM = "_updated_in_backward"


@runtime_checkable
class UpdatesInBackward(Protocol):
    """What such an optimizer reports of itself."""

    updates_in_backward: bool
    """True."""


def updates_in_backward(optimizer: torch.optim.Optimizer | None) -> bool:
    """Whether a backward pass is the update already."""
    return isinstance(optimizer, UpdatesInBackward) and optimizer.updates_in_backward


def claim(parameters: Iterable[Tensor], update: Callable[[Tensor], None]) -> None:
    """Call `update` with each of these parameters as soon as its gradient is whole; ends every earlier claim on it.

    A gradient that is not finite is dropped instead: it moves neither the parameter nor its moments. Knowing that makes
    each parameter wait for the device once.
    """

    def update_if_finite(parameter: Tensor) -> None:
        gradient = parameter.grad
        if gradient is None:
            return
        if bool(torch.isfinite(torch.linalg.vector_norm(gradient, float("inf")))):
            update(parameter)
        else:
            parameter.grad = None

    for parameter in parameters:
        release([parameter])
        handle = parameter.register_post_accumulate_grad_hook(update_if_finite)
        setattr(parameter, _CLAIM, handle)


def release(parameters: Iterable[Tensor]) -> None:
    """End the claims on these parameters: a backward pass leaves them alone."""
    for parameter in parameters:
        handle = getattr(parameter, _CLAIM, None)
        if handle is not None:
            handle.remove()
            delattr(parameter, _CLAIM)
