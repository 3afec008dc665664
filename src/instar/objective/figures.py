"""Training figures from what the step computed anyway. Shape letters: M targets, C classes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instar.metric import Confusion, MultiLabelCounts
from instar.objective.base import ForwardPass

OfTargets = Callable[[ForwardPass], Tensor]
"""(M,) a number for each target."""


@dataclass(frozen=True)
class Mean:
    """The mean of a number for each target."""

    of: OfTargets
    wants_entropy: bool = False
    size: int = 1

    def sums(self, one: ForwardPass) -> Tensor:
        return self.of(one).double().sum().reshape(1)

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        return sums[0] / num_targets


@dataclass(frozen=True)
class Perplexity(Mean):
    """The exponential of a mean."""

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        mean = sums[0] / num_targets
        return math.exp(mean) if mean < 700 else math.inf  # beyond the largest float


def correct(one: ForwardPass) -> Tensor:
    """Whether the first choice meets each target."""
    return one.correct_M


def loss(one: ForwardPass) -> Tensor:
    """Loss of each target."""
    return one.nll_M


def p_true(one: ForwardPass) -> Tensor:
    """Probability of the right class or token."""
    return torch.exp(-one.nll_M.float())


def entropy(one: ForwardPass) -> Tensor:
    """Entropy of each prediction, in nats."""
    if one.entropy_M is None:
        raise ValueError("entropy was not asked for when the loss was made")
    return one.entropy_M


def absolute_error(one: ForwardPass) -> Tensor:
    """Distance of each number from its target."""
    return (one.outputs.logits_MV()[:, 0].float() - one.target_M).abs()


OwnMetric = Callable[[Tensor, Tensor], tuple[Tensor | float, Tensor | float]]
"""(logits (M, C), targets (M)) of a micro-batch to (a sum, a count)."""


@dataclass(frozen=True)
class Own:
    """A user's function; sums and counts are added up over micro-batches, steps and ranks, and divided once."""

    function: OwnMetric
    wants_entropy: bool = False
    size: int = 2

    def sums(self, one: ForwardPass) -> Tensor:
        target_M = one.target_M
        both = self.function(one.outputs.logits_MV().detach(), target_M)
        return torch.stack([torch.as_tensor(part, device=target_M.device).double() for part in both])

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        del num_targets
        return sums[0] / sums[1] if sums[1] else math.nan


@dataclass(frozen=True)
class OfConfusion:
    """A score of how often each class was taken for each."""

    score: Callable[[Confusion], float]
    num_classes: int
    wants_entropy: bool = False

    @property
    def size(self) -> int:
        return self.num_classes**2

    def sums(self, one: ForwardPass) -> Tensor:
        chosen_M = one.outputs.logits_MV().argmax(-1)
        counts = torch.zeros(self.size, dtype=torch.float64, device=chosen_M.device)
        ones_M = torch.ones_like(chosen_M, dtype=torch.float64)
        return counts.index_add_(0, one.target_M * self.num_classes + chosen_M, ones_M)

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        del num_targets
        counts_CC = torch.tensor(sums, dtype=torch.float64).reshape(self.num_classes, -1)
        return self.score(Confusion(counts_CC.to(torch.int64).numpy()))


@dataclass(frozen=True)
class OfSets:
    """A score of how often each class of a set was right."""

    score: Callable[[MultiLabelCounts], float]
    num_classes: int
    wants_entropy: bool = False

    @property
    def size(self) -> int:
        return 1 + 4 * self.num_classes

    def sums(self, one: ForwardPass) -> Tensor:
        has_MC, chosen_MC = one.target_M > 0.5, one.outputs.logits_MV() > 0
        cells = [(~has_MC & ~chosen_MC), (~has_MC & chosen_MC), (has_MC & ~chosen_MC), (has_MC & chosen_MC)]
        counts_C4 = torch.stack([cell.double().sum(0) for cell in cells], dim=-1)
        return torch.cat([one.correct_M.double().sum().reshape(1), counts_C4.reshape(-1)])

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        counts = torch.tensor(sums[1:], dtype=torch.float64).to(torch.int64).reshape(-1, 2, 2)
        return self.score(MultiLabelCounts(counts.numpy(), int(sums[0]), num_targets))


@dataclass(frozen=True)
class Pearson:
    """Correlation of numbers with their targets, from five sums."""

    wants_entropy: bool = False
    size: int = 5

    def sums(self, one: ForwardPass) -> Tensor:
        x_M, y_M = one.outputs.logits_MV()[:, 0].double(), one.target_M.double()
        return torch.stack([x_M.sum(), y_M.sum(), (x_M * x_M).sum(), (y_M * y_M).sum(), (x_M * y_M).sum()])

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        x, y, xx, yy, xy = (value / num_targets for value in sums)
        spread = (xx - x * x) * (yy - y * y)
        return (xy - x * y) / math.sqrt(spread) if spread > 0 else math.nan
