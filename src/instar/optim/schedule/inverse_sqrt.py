"""One over the square root of time (Vaswani et al. 2017)."""

from collections.abc import Mapping
from typing import Literal, Self

from instar.optim.schedule.base import Span, Warmed, share


class InverseSqrt(Warmed):
    """Falls as the square root of `timescale` over the time since the run began."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup: Span = 0.1
    """Linear climb from zero; also the time scale of the fall where `timescale` is not given."""
    timescale: Span | None = None
    """Time after which the rate has begun to fall; the warm-up by default."""

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        warmup = share(self.warmup, totals)
        scale = share(self.timescale, totals) if self.timescale is not None else warmup
        if scale == 0:
            scale = 1.0 / totals["steps"]
        return float((scale / (scale + progress * (1 - warmup))) ** 0.5)

    def without_warmup(self) -> Self:
        return self.model_copy(update={"warmup": 0.0, "timescale": self.timescale or self.warmup})
