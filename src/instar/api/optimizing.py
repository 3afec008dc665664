"""The optimizer and the learning rate of a Trainer."""

from typing import Any

import torch
from torch import nn

from instar.api.arguments import TrainingArguments
from instar.api.base import TrainerParts
from instar.api.optimizers import (
    build_optimizer,
    decay_parameter_names,
    make_scheduler,
    needs_metric,
    optimizer_class_and_kwargs,
    parameter_groups,
)


class Optimizing(TrainerParts):
    """The optimizer and the learning rate of a Trainer."""

    def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
        """Make both, unless they are there."""
        self.create_optimizer()
        self.create_scheduler(num_training_steps=num_training_steps)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The optimizer that the arguments name, over the parameters that are trained; made once."""
        model = self.model if model is None else model
        if self.optimizer is None:
            groups = parameter_groups(model, self.args.weight_decay, self.get_decay_parameter_names(model))
            found, kwargs = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = build_optimizer(model, found, kwargs, groups)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """The schedule that the arguments name, over a training of that many steps; made once."""
        if self.lr_scheduler is None:
            self.lr_scheduler = make_scheduler(
                self.args.lr_scheduler_type,
                self._made_optimizer() if optimizer is None else optimizer,
                num_warmup_steps=self.args.get_warmup_steps(num_training_steps),
                num_training_steps=num_training_steps,
                kwargs=self.args.lr_scheduler_kwargs,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    @staticmethod
    def get_optimizer_cls_and_kwargs(args: TrainingArguments, model: Any = None) -> tuple[Any, dict[str, Any]]:
        """The class that `args.optim` names, and its keyword arguments; see `optimizer_class_and_kwargs`."""
        return optimizer_class_and_kwargs(args, model)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that weight decay applies to: neither biases nor norms."""
        return decay_parameter_names(model)

    def get_num_trainable_parameters(self) -> int:
        """How many numbers are trained."""
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def get_learning_rates(self) -> list[float]:
        """The learning rate of each group; ValueError before there is an optimizer."""
        return [group["lr"] for group in self._made_optimizer().param_groups]

    def get_optimizer_group(self, param: Any = None) -> Any:
        """The group of a parameter, None for one that is in none; without one, all groups."""
        groups = self._made_optimizer().param_groups
        if param is None:
            return groups
        return next((group for group in groups if any(one is param for one in group["params"])), None)

    def get_total_train_batch_size(self, args: TrainingArguments | None = None) -> int:
        """Samples of an optimizer step, over all ranks."""
        args = self.args if args is None else args
        return self._train_batch_size * args.gradient_accumulation_steps * self.runtime.data_size

    def get_tp_size(self) -> int:
        """Processes that share each layer's matrices."""
        return self.runtime.world_size // self.runtime.data_size

    def get_cp_size(self) -> int:
        """Processes that share a sequence: 1, for instar does not cut sequences."""
        return 1

    def get_sp_size(self) -> int:
        """Processes that share a sequence: 1, for instar does not cut sequences."""
        return 1

    def _get_learning_rate(self) -> float:
        """The learning rate of the first group, as the next step will have it."""
        scheduler = self.lr_scheduler
        if scheduler is None or needs_metric(scheduler) or not hasattr(scheduler, "get_last_lr"):
            rate = self._made_optimizer().param_groups[0]["lr"]
        else:
            rate = scheduler.get_last_lr()[0]
        return rate.item() if isinstance(rate, torch.Tensor) else rate

    def _made_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            raise ValueError("Trainer optimizer is None, please make sure you have setup the optimizer before.")
        return self.optimizer
