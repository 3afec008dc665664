"""Run the network once, then add up the terms.

Shape letters: M places where something is predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


class TermLike(Protocol):
    """One part of the loss."""

    @property
    def weight(self) -> float:
        """Share of this term in the sum."""
        ...

    def __call__(self, said: Forward, target_M: Tensor) -> Outcome:
        """Sums over the M targets."""
        ...


class Objective(nn.Module):
    """The network and the weighted terms of its loss, as one module that ranks can wrap."""

    def __init__(self, network: Network, terms: Sequence[TermLike]) -> None:
        super().__init__()
        self.network = network
        self.terms = tuple(terms)

    def forward(self, batch: Batch) -> Outcome:
        """The weighted sum of the terms over the batch's targets."""
        if batch.target_M is None:
            raise ValueError("a task must prepare a batch before its loss can be computed")
        said = self.network(batch)
        if batch.num_targets == 0:  # a rank that has no document of a step takes part, with nothing
            nothing = said.logits_MV()[:0].sum()
            return Outcome(nothing, torch.zeros_like(nothing, requires_grad=False))
        outcomes = [term(said, batch.target_M) for term in self.terms]
        total = torch.stack([term.weight * one.total for term, one in zip(self.terms, outcomes, strict=True)]).sum()
        return Outcome(total, outcomes[0].correct)
