"""Agree with the given targets. Shape letter: M positions where something is predicted."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from instar.model import Network
from instar.objective.base import NOTHING_ELSE, ForwardPass, Needs, TermConfig


class Hard(TermConfig):
    """The usual loss: cross entropy, binary cross entropy or squared error with the targets."""

    kind: Literal["hard"] = "hard"

    def build(self, network: Network, teacher: Network | None = None) -> "HardTerm":
        """Any network will do."""
        del network, teacher
        return HardTerm(self.weight)


@dataclass(frozen=True)
class HardTerm:
    """Sums over the targets, each times its weight where there are weights."""

    weight: float = 1.0
    needs: Needs = NOTHING_ELSE

    def __call__(self, one: ForwardPass) -> Tensor:
        loss_M, weight_M = one.scored.loss_M, one.batch.weight_M
        return loss_M.sum() if weight_M is None else (loss_M * weight_M).sum()
