"""Run the network once, then add up the terms.

Shape letters: M places where something is predicted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from instar.data import Batch
from instar.model import Forward, Network


@dataclass(frozen=True)
class Outcome:
    """Sums over the targets of a piece of a step, never means.

    The trainer divides once, by the targets of the whole step over all ranks, so cutting a
    step into micro-batches or over machines cannot change the gradient.
    """

    total: Tensor
    """What is to be minimised, summed over targets; carries the gradient."""
    correct: Tensor
    """How many targets the network's first choice meets; zero where nothing is chosen."""
    nll_M: Tensor | None = None
    """Negative log likelihood of each target, without gradient, of a term that has it."""
    correct_M: Tensor | None = None
    """Whether the first choice meets each target."""
    entropy_M: Tensor | None = None
    """Entropy of the prediction at each place, where a watch wants it."""
    watched: Mapping[str, Tensor] = field(default_factory=dict)
    """What was asked of this forward pass, by name: a number for each place."""


@dataclass(frozen=True)
class Seen:
    """A training forward pass, for those who look at it."""

    said: Forward
    batch: Batch
    nll_M: Tensor
    correct_M: Tensor
    entropy_M: Tensor | None
    """Nats; there if a watch wants it."""


class Watch(Protocol):
    """Looks at what a training step has computed: without gradients, the same batch, nothing computed twice."""

    @property
    def wants_entropy(self) -> bool:
        """Whether the pass that makes the loss is to give the entropy too; `seen.said` need not be asked for logits."""
        ...

    def __call__(self, seen: Seen) -> Tensor:
        """A number for each place that is read."""
        ...


class TermLike(Protocol):
    """One part of the loss."""

    @property
    def weight(self) -> float:
        """Share of this term in the sum."""
        ...

    def __call__(self, said: Forward, target_M: Tensor, weight_M: Tensor | None = None) -> Outcome:
        """Sums over the M targets, each times its weight where there are weights."""
        ...


class Objective(nn.Module):
    """The network and the weighted terms of its loss, as one module that ranks can wrap."""

    def __init__(self, network: Network, terms: Sequence[TermLike]) -> None:
        super().__init__()
        self.network = network
        self.terms = tuple(terms)
        self.watches: dict[str, Watch] = {}

    def forward(self, batch: Batch) -> Outcome:
        """The weighted sum of the terms over the batch's targets."""
        if batch.target_M is None:
            raise ValueError("a task must prepare a batch before its loss can be computed")
        said = self.network(batch)
        said.with_entropy = any(watch.wants_entropy for watch in self.watches.values())
        if batch.num_targets == 0:  # a rank that has no document of a step takes part, with nothing
            nothing = said.logits_MV()[:0].sum()
            return Outcome(nothing, torch.zeros_like(nothing, requires_grad=False))
        outcomes = [term(said, batch.target_M, batch.weight_M) for term in self.terms]
        total = torch.stack([term.weight * one.total for term, one in zip(self.terms, outcomes, strict=True)]).sum()
        return Outcome(total, outcomes[0].correct, watched=self._watched(said, batch, outcomes[0]))

    @torch.no_grad()
    def _watched(self, said: Forward, batch: Batch, first: Outcome) -> dict[str, Tensor]:
        if first.nll_M is None or first.correct_M is None:
            return {}
        seen = Seen(said, batch, first.nll_M, first.correct_M, first.entropy_M)
        return {name: watch(seen) for name, watch in self.watches.items()}
