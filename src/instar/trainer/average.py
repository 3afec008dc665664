"""A moving average of the weights (Polyak and Juditsky 1992), kept beside the run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from instar.trainer.parallel.parts import local, part_of, settle


class WeightAverage:
    """Exponential moving average of a module's trained parameters, updated after each step."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._module = module
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.weights = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move toward the current weights by 1 - decay."""
        mine, theirs = ([local(weight) for weight in held.values()] for held in (self.weights, self._parameters))
        torch._foreach_lerp_(mine, theirs, 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the averaged weights within, and its own again after."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """The module holds the averaged weights from now on; this average is of no more use."""
        self._swap()

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take back saved averages; ValueError unless names and shapes are those of the parameters."""
        mine = {name: tuple(weight.shape) for name, weight in self.weights.items()}
        theirs = {name: tuple(weight.shape) for name, weight in weights.items()}
        differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
        if differing:
            name = differing[0]
            raise ValueError(f"{name}: wanted the shape {mine.get(name)}; got {theirs.get(name)}")
        for name, weight in self.weights.items():
            weight.copy_(part_of(weights[name], weight))

    @torch.no_grad()
    def _swap(self) -> None:
        settle(self._module)
        for name, parameter in self._parameters.items():
            mine = self.weights[name].clone()
            self.weights[name].copy_(parameter)
            parameter.copy_(mine)
