"""Up, down to a rate that can be kept for ever, and an end that can be put anywhere (Ibrahim et al. 2024)."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from instar.optim.schedule.base import Span, Warmed, share


class Infinite(Warmed):
    """Warm-up, half a cosine down to a constant, the constant, and an exponential fall over the last stretch.

    Write warm-up and cool-down as amounts ("500 steps"), so that a longer budget does not move them. The checkpoint
    from before the last stretch is always kept.
    """

    kind: Literal["infinite"] = "infinite"
    warmup: Span = 0.05
    """Linear climb from zero."""
    cooldown: Span = 0.2
    """The stretch after it, in which the rate falls to the constant."""
    constant: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor of the peak rate that is kept from there on."""
    anneal: Span = 0.1
    """The last stretch, in which the rate falls to `floor`; 0: none."""
    floor: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Last factor of the peak rate."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.floor > self.constant:
            raise ValueError(f"floor: wanted at most the constant, {self.constant}; got {self.floor}")
        return self

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        warmup, cooldown, anneal = (share(span, totals) for span in (self.warmup, self.cooldown, self.anneal))
        overall = warmup + progress * (1 - warmup)
        ending = overall - (1 - anneal)
        if anneal > 0 and ending > 0:
            start = self._kept(1 - anneal - warmup, cooldown)
            return float(start * (self.floor / start) ** min(1.0, ending / anneal))
        return self._kept(overall - warmup, cooldown)

    def decay_begins(self, totals: Mapping[str, float]) -> float | None:
        anneal = share(self.anneal, totals)
        return 1 - anneal if anneal > 0 else None

    def _kept(self, since: float, cooldown: float) -> float:
        """The factor this long after the warm-up, were there no end."""
        if since >= cooldown:
            return self.constant
        return self.constant + (1 - self.constant) * 0.5 * (1 + math.cos(math.pi * max(0.0, since) / cooldown))
