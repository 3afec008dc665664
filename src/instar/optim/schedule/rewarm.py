"""From the rate of a checkpoint to a new schedule, without a jump (Gupta et al. 2023; Ibrahim et al. 2024)."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from instar.optim.schedule.base import Rates, Span, share
from instar.optim.schedule.constant import Constant
from instar.optim.schedule.cosine import Cosine
from instar.optim.schedule.infinite import Infinite
from instar.optim.schedule.inverse_sqrt import InverseSqrt
from instar.optim.schedule.linear import Linear
from instar.optim.schedule.warmup_stable_decay import WarmupStableDecay

Then = Annotated[
    Constant | Linear | Cosine | InverseSqrt | WarmupStableDecay | Infinite,
    Field(discriminator="kind"),
]


class Rewarm(Rates):
    """Moves in a straight line from the checkpoint's last rate to where `then` starts, up or down, and follows it.

    The first step has the checkpoint's last rate exactly, and the step after the line the first one of `then`, whose
    own warm-up is left out: the line stands for it. Its other spans count the budget that is left after the line.
    """

    kind: Literal["rewarm"] = "rewarm"
    over: Span = 0.05
    """Length of the line: a fraction of the budget, or an amount with a unit."""
    then: Then = Field(default_factory=Cosine)
    """What comes after it."""
    start: Annotated[float, Field(ge=0)] | None = None
    """Factor of the peak rate to start at; null: the last rate of the checkpoint that the run begins from."""

    def factor(self, before: float, after: float, totals: Mapping[str, float]) -> float:
        del after
        if self.start is None:
            raise ValueError("a schedule that continues from a rate needs the rate first")
        over = share(self.over, totals)
        left = {unit: amount * (1 - over) for unit, amount in totals.items()}
        follows = self.then.without_warmup()
        if before < over:
            return self.start + (follows.factor(0.0, 0.0, left) - self.start) * (before / over)
        progress = (before - over) / max(1.0 - over, 1e-12)
        return follows.factor(progress, progress, left)

    def decay_begins(self, totals: Mapping[str, float]) -> float | None:
        over = share(self.over, totals)
        begins = self.then.without_warmup().decay_begins({unit: size * (1 - over) for unit, size in totals.items()})
        return None if begins is None else over + (1 - over) * begins
