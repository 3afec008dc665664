"""A straight line down."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from instar.optim.schedule.base import Warmed


class Linear(Warmed):
    """Falls linearly from the peak to `floor` times the peak."""

    kind: Literal["linear"] = "linear"
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Last factor of the peak rate."""

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        del totals
        return self.floor + (1 - self.floor) * max(0.0, 1 - progress)
