"""Private names of Transformers' Trainer that subclasses use."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from instar.api import traits
from instar.api.base import TrainerParts
from instar.api.gathering import gather_rows


class InheritedNames(TrainerParts):
    """What a subclass may call or override although its name begins with an underscore, and what it may not."""

    _gather_function: Callable[[Any], Any] | None = None

    @property
    def gather_function(self) -> Callable[[Any], Any]:
        """Gives the rows of all processes in their order, to a subclass's own loops.

        One that is set serves those alone: evaluation of this Trainer gathers once, at its end, each row once.
        """
        return self._gather_function or partial(gather_rows, runtime=self.runtime)

    @gather_function.setter
    def gather_function(self, function: Callable[[Any], Any]) -> None:
        self._gather_function = function

    def _clip_grad_norm(self, model: Any) -> Any:
        """Cut the gradient of `model` to `max_grad_norm`; returns its norm before. Each step calls this once."""
        del model
        return self.runtime.clip(self.model.parameters(), self.args.max_grad_norm)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Not there: a training is one loop over steps, which callbacks see begin and end epochs."""
        raise NotImplementedError(
            "_run_epoch: this Trainer has one loop over steps and no function for an epoch; use the events "
            "on_epoch_begin and on_epoch_end of a callback, or override training_step or get_train_dataloader"
        )

    def _own_clipping(self) -> Callable[[], Tensor] | None:
        """What clips in place of the loop's clipping where a subclass or an instance overrides it.

        NotImplementedError where `_run_epoch` is overridden: it would never be called.
        """
        if not traits.is_own(self, InheritedNames, "_run_epoch"):
            InheritedNames._run_epoch(self)
        limit = self.args.max_grad_norm
        if traits.is_own(self, InheritedNames, "_clip_grad_norm") or not (limit and limit > 0):
            return None
        return self._clipped_by_override

    def _clipped_by_override(self) -> Tensor:
        norm = self._clip_grad_norm(self.model_wrapped)
        if norm is None:
            return self.runtime.clip(self.model.parameters(), float("inf"))
        return torch.as_tensor(norm, device=self.args.device)
