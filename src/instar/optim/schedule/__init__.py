"""Learning rates as factors of the peak; one file each."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from instar.optim.schedule.base import Rates
from instar.optim.schedule.constant import Constant
from instar.optim.schedule.continued import Before, Continued
from instar.optim.schedule.cosine import Cosine
from instar.optim.schedule.infinite import Infinite
from instar.optim.schedule.inverse_sqrt import InverseSqrt
from instar.optim.schedule.linear import Linear
from instar.optim.schedule.rewarm import Rewarm
from instar.optim.schedule.warmup_stable_decay import WarmupStableDecay

Schedule = Annotated[
    Constant | Linear | Cosine | InverseSqrt | WarmupStableDecay | Infinite | Rewarm | Continued,
    Field(discriminator="kind"),
]

SPELLINGS = {"continue": "continued", "wsd": "warmup_stable_decay"}
"""Other words for a kind that a run file may use."""

__all__ = [
    "SPELLINGS",
    "Before",
    "Constant",
    "Continued",
    "Cosine",
    "Infinite",
    "InverseSqrt",
    "Linear",
    "Rates",
    "Rewarm",
    "Schedule",
    "WarmupStableDecay",
    "read_schedule",
]


def read_schedule(value: Mapping[str, Any]) -> Rates:
    """The schedule of a plain mapping, as `model_dump` gives it; pydantic's ValidationError if it is none."""
    schedule: Rates = _adapter().validate_python(dict(value))
    return schedule


@cache
def _adapter() -> TypeAdapter[Rates]:
    return TypeAdapter(Schedule)
