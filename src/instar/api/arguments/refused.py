"""Values of known arguments that instar does not act on, with the reason. They are refused, never ignored."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instar.api.arguments.choices import DebugOption
from instar.api.arguments.faults import Fault, shown

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments


@dataclass(frozen=True)
class Refusal:
    """A value of a field that is refused."""

    field: str
    value: str
    """Which value, as the documentation shows it."""
    asks: Callable[[Any], bool]
    """Whether a value is that one."""
    reason: str


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "debug",
        "`tpu_metrics_debug`",
        lambda options: DebugOption.TPU_METRICS_DEBUG in (options or ()),
        "instar runs on CPUs and GPUs, not on TPUs",
    ),
    Refusal(
        "sortish_sampler",
        "`True`",
        bool,
        "write train_sampling_strategy='group_by_length', which sorts any data set roughly by length",
    ),
)


def check(arguments: "TrainingArguments") -> Iterator[Fault]:
    """A fault for each value that is refused."""
    for refusal in REFUSALS:
        value = getattr(arguments, refusal.field, None)
        if refusal.asks(value):
            yield Fault(refusal.field, f"{refusal.reason}; got {shown(value)}")
