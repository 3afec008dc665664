"""The peak rate, all the way."""

from collections.abc import Mapping
from typing import Literal

from instar.optim.schedule.base import Warmed


class Constant(Warmed):
    """Stays at the peak after warm-up."""

    kind: Literal["constant"] = "constant"

    def shape(self, progress: float, totals: Mapping[str, float]) -> float:
        del progress, totals
        return 1.0
