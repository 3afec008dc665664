"""Run the network once, then add up the terms.

Shape letters: M positions where something is predicted, C classes or values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from instar.config import Config
from instar.data import Batch
from instar.model import Forward, Network


@dataclass(frozen=True)
class TargetScores:
    """How well each target was met."""

    loss_M: Tensor
    """Negative log likelihood, or squared error; float32, carries the gradient."""
    correct_M: Tensor
    """True where the first choice is right; always False for numbers."""
    entropy_M: Tensor | None = None
    """Entropy of the answers in nats, of classes only, where the outputs were asked for it; no gradient."""


def score_targets(outputs: Forward, target_M: Tensor) -> TargetScores:
    """Loss of each target; the type of the targets says which loss.

    Classes (int64, M): cross entropy. Numbers (float, M): squared error. Sets of labels
    (float, M x C): binary cross entropy, averaged over the labels of each row.
    """
    if not target_M.is_floating_point():
        scores = outputs.cross_entropy(target_M)
        return TargetScores(scores.nll_M, scores.correct_M, scores.entropy_M)
    logits_MC = outputs.logits_MV().float()
    if target_M.ndim == 1:
        return TargetScores((logits_MC[:, 0] - target_M) ** 2, torch.zeros_like(target_M, dtype=torch.bool))
    loss_M = F.binary_cross_entropy_with_logits(logits_MC, target_M, reduction="none").mean(-1)
    return TargetScores(loss_M, ((logits_MC > 0) == (target_M > 0.5)).all(-1))


@dataclass(frozen=True)
class ForwardPass:
    """A prepared batch and what the network makes of it; what several ask for is computed once."""

    outputs: Forward
    batch: Batch
    teacher: Forward | None = None
    """Outputs of a teacher for the same batch, without gradients."""

    @property
    def target_M(self) -> Tensor:
        """What is predicted at each position."""
        if self.batch.target_M is None:
            raise ValueError("a task must prepare a batch before its loss can be computed")
        return self.batch.target_M

    @cached_property
    def scored(self) -> TargetScores:
        """How well the targets are met; its loss carries the gradient of the pass that trains."""
        return score_targets(self.outputs, self.target_M)

    @property
    def nll_M(self) -> Tensor:
        """Loss of each target, without gradient."""
        return self.scored.loss_M.detach()

    @property
    def correct_M(self) -> Tensor:
        """Whether the first choice meets each target."""
        return self.scored.correct_M.detach()

    @property
    def entropy_M(self) -> Tensor | None:
        """Nats; there if somebody wants it."""
        return self.scored.entropy_M


@dataclass(frozen=True)
class Needs:
    """What a term reads beside the outputs of the last layer."""

    layers: tuple[int, ...] = (-1,)
    """Layers whose hidden states are read; 0: the embeddings, -1: the last."""
    teacher: bool = False
    """Whether outputs of a teacher are read."""


NOTHING_ELSE = Needs()


class Term(Protocol):
    """One part of the loss, built for a network."""

    @property
    def weight(self) -> float:
        """Share of this term in the sum."""
        ...

    @property
    def needs(self) -> Needs:
        """What it reads."""
        ...

    def __call__(self, one: ForwardPass) -> Tensor:
        """The sum over the targets, each times its weight where the batch has weights; carries the gradient."""
        ...


class TermConfig(Config):
    """The values of a run file's term."""

    kind: str
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of this term in the sum."""

    def build(self, network: Network, teacher: Network | None = None) -> Term:
        """The term for this network; ConfigError where the network or the teacher does not have what it needs."""
        raise NotImplementedError


class Watch(Protocol):
    """Looks at what a training step has computed: without gradients, the same batch, nothing computed twice."""

    @property
    def wants_entropy(self) -> bool:
        """Whether the pass that makes the loss is to give the entropy too; logits need not be asked for."""
        ...

    def __call__(self, one: ForwardPass) -> Tensor:
        """A number for each position that is read."""
        ...


class Figure(Protocol):
    """A training figure: sums over the targets of a pass, from which micro-batches, steps and ranks make one number."""

    @property
    def wants_entropy(self) -> bool:
        """As of a watch."""
        ...

    @property
    def size(self) -> int:
        """How many sums it keeps."""
        ...

    def sums(self, one: ForwardPass) -> Tensor:
        """(size,) sums over the targets, on the device, without gradients."""
        ...

    def value(self, sums: Sequence[float], num_targets: int) -> float:
        """The figure of what was summed."""
        ...


@dataclass(frozen=True)
class Outcome:
    """Sums over the targets of a micro-batch, never means.

    The trainer divides once, by the targets of the whole step over all ranks, so cutting a
    step into micro-batches or over machines cannot change the gradient.
    """

    total: Tensor
    """What is to be minimised, summed over targets; carries the gradient."""
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    """The sum of each term by name, before its weight, without gradient; empty where there is one term."""
    figures: Mapping[str, Tensor] = field(default_factory=dict)
    """The sums of each figure by name."""
    watched: Mapping[str, Tensor] = field(default_factory=dict)
    """What was asked of this forward pass, by name: a number for each position."""


class Objective(nn.Module):
    """The network and the weighted terms of its loss, as one module that ranks can wrap."""

    def __init__(self, network: Network, terms: Sequence[TermConfig], teacher: Network | None = None) -> None:
        super().__init__()
        self.network = network
        self.terms = {name: config.build(network, teacher) for name, config in named_terms(terms).items()}
        needs = [term.needs for term in self.terms.values()]
        self.layers = tuple(sorted({layer for need in needs for layer in need.layers} | {-1}))
        self._teacher = teacher if any(need.teacher for need in needs) else None
        self.watches: dict[str, Watch] = {}
        self.figures: dict[str, Figure] = {}

    def forward(self, batch: Batch) -> Outcome:
        """The weighted sum of the terms over the batch's targets; the network is asked once for what all need."""
        outputs = self.network(batch, self.layers)
        wants_entropy = [watch.wants_entropy for watch in self.watches.values()]
        outputs.with_entropy = any([*wants_entropy, *(figure.wants_entropy for figure in self.figures.values())])
        if batch.num_targets == 0:  # a rank that has no document of a step takes part, with nothing
            return self._without_targets(outputs)
        one = ForwardPass(outputs, batch, self._taught(batch))
        sums = {name: term(one) for name, term in self.terms.items()}
        total = torch.stack([term.weight * sums[name] for name, term in self.terms.items()]).sum()
        with torch.no_grad():
            return Outcome(
                total,
                terms={name: value.detach() for name, value in sums.items()} if len(sums) > 1 else {},
                figures={name: figure.sums(one) for name, figure in self.figures.items()},
                watched={name: watch(one) for name, watch in self.watches.items()},
            )

    def _without_targets(self, outputs: Forward) -> Outcome:
        """Zeros; the total depends on all that is trained, so that ranks exchange the same gradients."""
        nothing = outputs.logits_MV()[:0].sum()
        for layer in self.layers:
            if layer != -1:
                nothing = nothing + outputs.hidden_MH(layer)[:0].sum()
        zero = torch.zeros_like(nothing, requires_grad=False)
        return Outcome(
            nothing,
            terms=dict.fromkeys(self.terms, zero) if len(self.terms) > 1 else {},
            figures={
                name: torch.zeros(figure.size, dtype=torch.float64, device=nothing.device)
                for name, figure in self.figures.items()
            },
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the terms, where there are several, and of the figures, in the order of an outcome."""
        terms = [f"loss_{name}" for name in self.terms] if len(self.terms) > 1 else []
        return (*terms, *self.figures)

    @torch.no_grad()
    def _taught(self, batch: Batch) -> Forward | None:
        return None if self._teacher is None else self._teacher(batch, self.layers)


def named_terms(terms: Sequence[TermConfig]) -> dict[str, TermConfig]:
    """The terms by name: their kind, with a number where a kind comes again."""
    found: dict[str, TermConfig] = {}
    for term in terms:
        same = sum(other.kind == term.kind for other in found.values())
        found[term.kind if not same else f"{term.kind}_{same + 1}"] = term
    return found
