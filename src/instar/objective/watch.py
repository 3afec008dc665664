"""Training figures beside loss and accuracy, from what the step computed anyway. Shape letter: M places predicted."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from instar.objective.base import Seen

TrainMetric = Literal["p_true", "entropy"]
"""p_true: probability of the right token. entropy: of the prediction, in nats. Means over the targets."""


@dataclass(frozen=True)
class Figure:
    """A number for each place that a training step predicts: of the same batch, without gradients."""

    name: TrainMetric

    @property
    def wants_entropy(self) -> bool:
        return self.name == "entropy"

    def __call__(self, seen: Seen) -> Tensor:
        if self.name == "p_true":
            return torch.exp(-seen.nll_M.float())
        if seen.entropy_M is None:
            raise ValueError("entropy was not asked for when the loss was made")
        return seen.entropy_M
