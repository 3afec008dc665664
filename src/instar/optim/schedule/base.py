"""What every learning-rate schedule is given, and how it may be warmed up."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field

from instar.config import Config
from instar.config.base import amount_of
from instar.core.budget import Budget

Span = Annotated[float, Field(ge=0, lt=1)] | Annotated[Budget, *amount_of("steps", "epochs", "samples", "tokens")]
"""A stretch of the run: a fraction of the budget (0.05), or an amount ("200 steps")."""


def share(span: float | Budget, totals: Mapping[str, float]) -> float:
    """The span as a fraction of the whole run; `totals`: how long the run is in each unit."""
    if isinstance(span, Budget):
        return min(1.0, span.amount / totals[span.unit])
    return span


class Rates(Config):
    """Base of all schedules: a factor of the peak rate for each step."""

    def factor(self, before: float, after: float, totals: Mapping[str, float]) -> float:
        """What the peak rate is multiplied by.

        `before` and `after` are the shares of the budget spent when the step starts and ends.
        """
        raise NotImplementedError

    def decay_begins(self, totals: Mapping[str, float]) -> float | None:
        """Share of the budget after which the rate only falls to its end, where a run can continue; None: nowhere."""
        del totals
        return None


class Warmed(Rates):
    """Base of schedules: the factor climbs linearly to 1 over the warm-up, then follows the shape.

    The first step already moves: warm-up counts the step that is being made.
    """

    warmup: Span = 0.0
    """Linear climb from zero: a fraction of the budget, or an amount with a unit."""

    def factor(self, before: float, after: float, totals: Mapping[str, float]) -> float:
        warmup = share(self.warmup, totals)
        if before < warmup:
            return min(1.0, after / warmup)
        return self.shape((before - warmup) / max(1.0 - warmup, 1e-12), totals)

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        """The factor after warm-up, at most 1; `progress` runs from 0 to 1."""
        raise NotImplementedError

    def without_warmup(self) -> Self:
        """The same from its peak on."""
        return self.model_copy(update={"warmup": 0.0})
