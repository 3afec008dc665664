"""What a Trainer counts while it trains: losses, tokens, steps that went wrong."""

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from instar.api.averaging import Average
from instar.api.learning import Learning
from instar.api.tokens import count_tokens
from instar.core.errors import NonFiniteError

if TYPE_CHECKING:
    from instar.api.steps import FaceResult, MicroBatchSteps

_log = logging.getLogger(__name__)


class Counting(Learning):
    """Sums stay on the device between logs, and ranks are added up when they are read."""

    _steps: "MicroBatchSteps | None" = None

    def _begin_counting(self, checkpoint: str | None) -> None:
        values = {} if checkpoint is None else self._load_loop_values(checkpoint)
        device = self.args.device
        self._alone = self.runtime.data_size == 1
        self._start_time = time.time()
        self._initial_num_input_tokens_seen = self.state.num_input_tokens_seen
        self._initial_global_step = self.state.global_step
        self._globalstep_last_logged = self.state.global_step - values.get("steps_since_log", 0)
        before = float(values.get("loss_since_log", 0.0))
        self._tr_loss = torch.tensor(before, device=device)
        bad = 0 if self.args.non_finite == "stop" else values.get("non_finite_since_log", 0)
        self._non_finite = torch.tensor(bad if self.runtime.is_main else 0, device=device)
        self._counted_from = values.get("counted_from", self.state.global_step)
        self._num_non_finite = values.get("non_finite_before_log", -bad)
        self._empty_since_log = values.get("steps_without_targets_since_log", 0)
        self._num_empty = values.get("steps_without_targets_before_log", -self._empty_since_log)
        self._average = None if values.get("loss_averages") is None else Average(values["loss_averages"])
        self._average_tries, self._average_is_shared = 0, self._average is not None
        self._unsettled_tokens: Any = 0
        self._total_loss_scalar = float(values.get("loss_before_log", -before))
        self._last_scale = self._scaler.get_scale()

    def _count_loss(self, result: "FaceResult") -> None:
        """Add a step's loss to the sum since the last log, and act on one that is no number as `non_finite` says."""
        if self._num_without_targets and self._num_without_targets == len(self._pieces):
            self._empty_since_log += 1
        is_finite = torch.isfinite(result.loss)
        if not self._scaler.is_enabled():  # whose gradients are too large now and then
            is_finite = is_finite & result.is_finite
        filters = self.args.logging_nan_inf_filter
        self._tr_loss += torch.where(is_finite, result.loss, 0.0) if filters else result.loss
        self._non_finite += ~is_finite
        if self._alone and result.loss.device.type == "cpu":  # nothing to wait for
            self._check_finite()
            if self.args.include_num_input_tokens_seen != "no":
                self._settle_tokens()

    def _check_finite(self) -> None:
        """With `non_finite="stop"`, end the run at a loss or gradient that is no number; weights are as before it.

        All ranks call this together.
        """
        bad = self._non_finite if self._alone else self.runtime.sum(self._non_finite)
        if self.args.non_finite != "stop" or not int(bad):
            return
        raise NonFiniteError(
            f"step {self.state.global_step}: the loss or the gradient is not a number, and the weights were left as "
            "they were; look at the data and the learning rate, or set non_finite='skip' to leave such steps out, or "
            "'log' to train on all the same"
        )

    def _record(self, tr_loss: Tensor, steps: int, grad_norm: Any, learning_rate: float | None) -> dict[str, Any]:
        """The record of the steps since the last one; the only place where a step waits for the device."""
        bad = int(self.runtime.sum(self._non_finite))
        all_steps = steps * self.runtime.data_size - self._empty_since_log
        self._num_empty += self._empty_since_log
        self._empty_since_log = 0
        summed = self.runtime.sum(tr_loss).item()
        tr_loss.zero_()
        self._non_finite.zero_()
        filters = bad and self.args.logging_nan_inf_filter
        counted = all_steps - bad if filters else all_steps
        logs: dict[str, Any] = {"loss": summed / counted if counted else math.nan}
        if filters:
            self._num_non_finite += bad
            logs["non_finite_steps"] = bad
            _log.warning("%d of the last %d steps had a loss or a gradient that is no number", bad, all_steps)
        if grad_norm is not None:
            logs["grad_norm"] = grad_norm.item() if isinstance(grad_norm, Tensor) else grad_norm
        logs["learning_rate"] = self._get_learning_rate() if learning_rate is None else learning_rate
        if self._metrics is not None:
            logs |= self._metrics.record(self.runtime)
        self._total_loss_scalar += summed / self.runtime.data_size
        self._globalstep_last_logged = self.state.global_step
        self.store_flos()
        return logs

    def _mean_loss(self, steps: int) -> dict[str, Any]:
        """The mean loss of `steps`, over those that had one; how many had none, where some had.

        A run that goes on counts the steps before it too, as the run that was never stopped.
        """
        since_log = int(self.runtime.sum(self._non_finite))
        steps -= self._num_empty + self._empty_since_log
        self._total_loss_scalar += self._mean_over_ranks(self._tr_loss)
        bad = self._num_non_finite + since_log if self.args.logging_nan_inf_filter else 0
        if not bad:
            return {"train_loss": self._total_loss_scalar / max(steps, 0.001)}
        if since_log:
            _log.warning("%d steps since the last log had a loss or a gradient that is no number", since_log)
        counted = steps - bad / self.runtime.data_size
        mean = self._total_loss_scalar / counted if counted > 0 else math.nan
        return {"train_loss": mean, "non_finite_steps": bad}

    def _mean_over_ranks(self, value: Tensor) -> float:
        mean: float = (self.runtime.sum(value) / self.runtime.data_size).item()
        return mean

    def _track_num_input_tokens(self, inputs: Any) -> None:
        """Count the tokens of a micro-batch."""
        self._unsettled_tokens = self._unsettled_tokens + count_tokens(self, inputs)

    def _settle_tokens(self) -> None:
        """Put the tokens of all ranks into the state; all call this together."""
        if self.args.include_num_input_tokens_seen == "no":
            return
        counted = torch.as_tensor(self._unsettled_tokens, device=self.args.device, dtype=torch.int64)
        self.state.num_input_tokens_seen += int(self.runtime.sum(counted))
        self._unsettled_tokens = 0

    def _was_skipped(self) -> bool:
        """True where fp16's scaler left the step out, so that the schedule waits too."""
        if not self._scaler.is_enabled():
            return False
        before, self._last_scale = self._last_scale, self._scaler.get_scale()
        return bool(self._last_scale < before)

    def _samples_a_batch(self) -> int:
        """Samples of a micro-batch as it is read, over all ranks."""
        return self._read_batch_size * self.runtime.data_size

    def _loop_values(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the state, so that a run that goes on logs what it would have logged."""
        if self._steps is None:
            return {}
        return {
            "place": list(self._steps.place),
            "samples_a_batch": self._samples_a_batch(),
            "counted_from": self._counted_from,
            "loss_before_log": self._total_loss_scalar,
            "non_finite_before_log": self._num_non_finite,
            "steps_without_targets_before_log": self._num_empty,
            "loss_since_log": self._mean_over_ranks(self._tr_loss),
            "steps_since_log": self.state.global_step - self._globalstep_last_logged,
            "non_finite_since_log": int(self.runtime.sum(self._non_finite)),
            "steps_without_targets_since_log": self._empty_since_log,
            "loss_averages": self._average,
        }
