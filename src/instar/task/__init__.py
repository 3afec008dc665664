"""What to predict: inputs and targets of one whole step; one file each."""

from typing import Annotated, get_args

from pydantic import Field

from instar.inference.base import StepContext, TaskLike
from instar.model import Head
from instar.task.base import TaskConfig
from instar.task.causal_lm import CausalLM
from instar.task.classify import Classify
from instar.task.mlm import MaskedLM

Task = Annotated[MaskedLM | CausalLM | Classify, Field(discriminator="kind")]


def default_task(head: Head) -> TaskConfig:
    """The task, with its default values, of a network that has this head."""
    kinds: tuple[type[TaskConfig], ...] = get_args(get_args(Task)[0])
    return next(kind for kind in kinds if kind.head == head).model_validate({})


__all__ = ["CausalLM", "Classify", "MaskedLM", "StepContext", "Task", "TaskConfig", "TaskLike", "default_task"]
