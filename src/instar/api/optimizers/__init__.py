"""Every optimizer and every learning-rate schedule that TrainingArguments can name."""

from instar.api.optimizers.build import build_optimizer, is_optimizer_factory
from instar.api.optimizers.groups import decay_parameter_names, parameter_groups
from instar.api.optimizers.registry import RECIPES, optimizer_class_and_kwargs
from instar.api.optimizers.schedules import SCHEDULES, make_scheduler, needs_metric

__all__ = [
    "RECIPES",
    "SCHEDULES",
    "build_optimizer",
    "decay_parameter_names",
    "is_optimizer_factory",
    "make_scheduler",
    "needs_metric",
    "optimizer_class_and_kwargs",
    "parameter_groups",
]
