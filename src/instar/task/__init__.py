"""What to predict: inputs and targets of one whole step; one file each."""

from typing import Annotated

from pydantic import Field

from instar.task.base import Answer, Moment, TaskLike
from instar.task.causal_lm import CausalLM
from instar.task.classify import Classify
from instar.task.mlm import MaskedLM

Task = Annotated[MaskedLM | CausalLM | Classify, Field(discriminator="kind")]

__all__ = ["Answer", "CausalLM", "Classify", "MaskedLM", "Moment", "Task", "TaskLike"]
