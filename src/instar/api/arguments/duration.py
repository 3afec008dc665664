"""Where a run writes, how long it lasts, and how its learning rate moves."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instar.api.arguments.choices import SchedulerType
from instar.api.arguments.option import formerly, option


@dataclass(repr=False)
class OutputArguments:
    """Where a run writes."""

    if TYPE_CHECKING:
        output_dir: str = ""  # as it is once the arguments are made
    else:
        output_dir: str | None = option(None, "folder for checkpoints and results; unset: trainer_output")


@dataclass(repr=False)
class DurationArguments:
    """How much data a step reads, and how many steps there are."""

    per_device_train_batch_size: int = option(
        8, "samples in a micro-batch of one device", **formerly("per_gpu_train_batch_size")
    )
    num_train_epochs: float = option(3.0, "passes over the training data; a part of one is allowed")
    max_steps: int = option(-1, "optimizer steps; above 0 it decides instead of num_train_epochs")


@dataclass(repr=False)
class ScheduleArguments:
    """How the learning rate moves."""

    learning_rate: float = option(5e-5, "the peak of the learning rate")
    lr_scheduler_type: SchedulerType | str = option("linear", "how the rate moves after the warm-up")
    if TYPE_CHECKING:
        lr_scheduler_kwargs: dict[str, Any] | None = None
    else:
        lr_scheduler_kwargs: dict | str | None = option(None, "further values of the schedule, by name")
    warmup_steps: float = option(
        0, "steps over which the rate rises from 0; below 1: that share of all steps", **formerly("warmup_ratio")
    )
