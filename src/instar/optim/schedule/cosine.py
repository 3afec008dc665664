"""Half a cosine down (Loshchilov and Hutter 2017, without restarts)."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from instar.optim.schedule.base import Warmed


class Cosine(Warmed):
    """Falls along half a cosine from the peak to `floor` times the peak."""

    kind: Literal["cosine"] = "cosine"
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Last factor of the peak rate."""

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        del totals
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
