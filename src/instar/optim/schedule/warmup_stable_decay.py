"""Up, along, and down at the end (Hu et al. 2024; the decay shape of Hägele et al. 2024)."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from instar.optim.schedule.base import Span, Warmed, share


class WarmupStableDecay(Warmed):
    """Stays at the peak, then falls as 1 - sqrt(t) over the last stretch of the run."""

    kind: Literal["warmup_stable_decay"] = "warmup_stable_decay"
    warmup: Span = 0.05
    """Linear climb from zero."""
    decay: Span = 0.2
    """The last stretch, in which the rate falls."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Last factor of the peak rate."""

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        warmup, decay = share(self.warmup, totals), share(self.decay, totals)
        overall = warmup + progress * (1 - warmup)
        begun = overall - (1 - decay)
        if decay == 0 or begun <= 0:
            return 1.0
        return float(self.floor + (1 - self.floor) * (1 - min(1.0, begun / decay) ** 0.5))
