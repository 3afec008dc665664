"""An optimizer that changes nothing: a run that only measures."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class Frozen(torch.optim.Optimizer):
    """Has the groups of another optimizer, and leaves every parameter as it is, whatever the gradients."""

    _step_supports_amp_scaling = True
    """Nothing to skip, so nobody asks the device whether gradients are finite."""

    def __init__(self, groups: Iterable[dict[str, Any]]) -> None:
        super().__init__([{**group} for group in groups], {"lr": 0.0})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Nothing."""
        del closure
