"""Learning rates as factors of the peak; one file each."""

from typing import Annotated

from pydantic import Field

from instar.optim.schedule.constant import Constant
from instar.optim.schedule.cosine import Cosine
from instar.optim.schedule.inverse_sqrt import InverseSqrt
from instar.optim.schedule.linear import Linear
from instar.optim.schedule.warmup_stable_decay import WarmupStableDecay

Schedule = Annotated[
    Constant | Linear | Cosine | InverseSqrt | WarmupStableDecay,
    Field(discriminator="kind"),
]

__all__ = ["Constant", "Cosine", "InverseSqrt", "Linear", "Schedule", "WarmupStableDecay"]
