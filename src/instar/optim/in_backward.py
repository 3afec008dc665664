"""Optimizers that change the weights while gradients are made, so that no two gradients exist at once.

With them a backward pass is the update. Whoever runs the step therefore

- runs one backward pass for a step: micro-batches would be steps of their own,
- neither clips nor measures gradients, and uses no loss scaler: there are none after the pass,
- looks at the loss, not at the gradient, to leave out a step that is not finite: before the pass,
- still calls `step()` and `zero_grad()`, which end the step and count it.
"""

from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class UpdatesInBackward(Protocol):
    """What such an optimizer says of itself."""

    updates_in_backward: bool
    """True."""


def updates_in_backward(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a backward pass is the update already."""
    return isinstance(optimizer, UpdatesInBackward) and optimizer.updates_in_backward
