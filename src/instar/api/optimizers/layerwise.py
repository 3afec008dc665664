"""One small optimizer for each parameter, stepped as soon as its gradient is whole."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from instar.optim.in_backward import claim


class Layerwise(torch.optim.Optimizer):
    """Steps each parameter in its own backward hook and frees the gradient, with the groups and the state of one.

    `param_groups` are those given, so that a schedule sets the rates of all; `state_dict` is what one optimizer over
    all parameters would write. `step()` and `zero_grad()` have nothing left to do. Weights are those that `base` over
    all parameters would make with gradients that are not clipped.
    """

    updates_in_backward = True

    def __init__(self, params: list[dict[str, Any]], *, base: type[torch.optim.Optimizer], **kwargs: Any) -> None:
        self._base: dict[Tensor, tuple[torch.optim.Optimizer, int]] = {}
        whole = base(params, **kwargs)
        super().__init__(whole.param_groups, whole.defaults)
        # State that a base gives a parameter at birth (APOLLO: the seed of its projection) is that of its place.
        self.state.update(whole.state)
        for number, group in enumerate(self.param_groups):
            for parameter in group["params"]:
                inner = base([{**_shared(group), "params": [parameter]}], **kwargs)
                self._base[parameter] = (inner, number)
        claim(self._base, self._update)
        self._share()

    def _share(self) -> None:
        """Every part reads and writes the one state."""
        for inner, _ in self._base.values():
            inner.state = self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _update(self, parameter: Tensor) -> None:
        inner, number = self._base[parameter]
        inner.param_groups[0].update(_shared(self.param_groups[number]))
        inner.step()
        parameter.grad = None

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Nothing: the weights moved in the backward pass."""
        del closure

    def parts(self) -> Iterator[torch.optim.Optimizer]:
        """The optimizers of one parameter each."""
        for inner, _ in self._base.values():
            yield inner


def _shared(group: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}
