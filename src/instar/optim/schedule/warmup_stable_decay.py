"""Up, along, and down at the end (Hu et al. 2024; the decay shape of Hägele et al. 2024)."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from instar.optim.schedule.base import Span, Warmed, share


class WarmupStableDecay(Warmed):
    """Stays at the peak, then falls over the last stretch of the run.

    The checkpoint from before the fall is always kept: a longer run continues from it without warming up again.
    """

    kind: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    warmup: Span = 0.05
    """Linear climb from zero."""
    decay: Span = 0.2
    """The last stretch, in which the rate falls."""
    decay_shape: Literal["root", "linear", "cosine"] = "root"
    """How it falls: as 1 - sqrt(t), along a line, or along half a cosine."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Last factor of the peak rate."""

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        warmup, decay = share(self.warmup, totals), share(self.decay, totals)
        overall = warmup + progress * (1 - warmup)
        begun = overall - (1 - decay)
        if decay == 0 or begun <= 0:
            return 1.0
        return float(self.floor + (1 - self.floor) * self._left(min(1.0, begun / decay)))

    def decay_begins(self, totals: Mapping[str, float]) -> float | None:
        decay = share(self.decay, totals)
        return 1 - decay if decay > 0 else None

    def _left(self, done: float) -> float:
        """Share of the fall that is still to come."""
        if self.decay_shape == "linear":
            return 1 - done
        if self.decay_shape == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return float(1 - done**0.5)
