"""Agree with the given targets.

Shape letters: M places where something is predicted, C classes or values, V vocabulary.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from instar.config import Config
from instar.model import Forward
from instar.objective.base import Outcome


@dataclass(frozen=True)
class Judged:
    """How well each target was met."""

    loss_M: Tensor
    """Negative log likelihood, or squared error; float32, carries the gradient."""
    correct_M: Tensor
    """True where the first choice is right; always False for numbers."""
    entropy_M: Tensor | None = None
    """Entropy of the answers in nats, of classes only, where `said` was asked for it; no gradient."""


def judge(said: Forward, target_M: Tensor) -> Judged:
    """Loss of each target; what a target is says which loss.

    Classes (int64, M): cross entropy. Numbers (float, M): squared error. Sets of labels
    (float, M x C): binary cross entropy, averaged over the labels of each row.
    """
    if not target_M.is_floating_point():
        scores = said.cross_entropy(target_M)
        return Judged(scores.nll_M, scores.correct_M, scores.entropy_M)
    logits_MC = said.logits_MV().float()
    if target_M.ndim == 1:
        return Judged((logits_MC[:, 0] - target_M) ** 2, torch.zeros_like(target_M, dtype=torch.bool))
    loss_M = F.binary_cross_entropy_with_logits(logits_MC, target_M, reduction="none").mean(-1)
    return Judged(loss_M, ((logits_MC > 0) == (target_M > 0.5)).all(-1))


class Hard(Config):
    """The usual loss: cross entropy, binary cross entropy or squared error with the targets."""

    kind: Literal["hard"] = "hard"
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Share of this term in the sum."""

    def __call__(self, said: Forward, target_M: Tensor, weight_M: Tensor | None = None) -> Outcome:
        """Sums over the targets, each times its weight where there are weights."""
        judged = judge(said, target_M)
        total = judged.loss_M.sum() if weight_M is None else (judged.loss_M * weight_M).sum()
        correct_M = judged.correct_M.detach()
        return Outcome(total, correct_M.sum(), judged.loss_M.detach(), correct_M, entropy_M=judged.entropy_M)
