"""A micro-batch's loss and gradient."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from instar.api import traits
from instar.api.averaging import with_a_target
from instar.api.signatures import takes_argument, takes_positional
from instar.api.structure import Structure
from instar.api.training_metrics import logits_of
from instar.api.weighing import Weighing, depends_on, loss_of

if TYPE_CHECKING:
    from instar.api.fast_path import FastPath
    from instar.api.training_metrics import TrainingMetrics

_log = logging.getLogger(__name__)
_PLAIN: AbstractContextManager[None] = nullcontext()


class Learning(Weighing):
    """`training_step`, `compute_loss` and what they need; each may be overridden, with the arguments it likes."""

    _structure: Structure | None = None
    """Modules and parameters of `model_wrapped`, while training."""
    _step_takes: dict[str, bool]
    """What the methods take that users override; see `_inspect_overrides`."""
    _metrics: "TrainingMetrics | None"
    """Training figures of the user's own."""
    _fast_path: "FastPath | None" = None
    """How micro-batches of a known model and collator are learned from, while training; see `fast_path`."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a micro-batch; returns its part of the step's loss.

        The parts of a step add up to the mean over all its targets, however it is cut: a loss that is not divided
        by `num_items_in_batch` already is weighted by its targets where it is found to be a mean over them, and else
        by 1 / (number of micro-batches). A micro-batch without targets counts for nothing, and has no gradient.
        `loss_is_scaled_for_ga` overrules what was found out.
        """
        structure = self._structure
        model.train() if structure is None or structure.model is not model else structure.train()
        given, lacks_targets = inputs, self._has_no_targets(inputs)
        if lacks_targets and self.runtime.world_size > 1:
            inputs = with_a_target(inputs)  # the loss is a number, which counts for nothing
        elif lacks_targets and self._average is not None:
            return self._nothing()
        with self.compute_loss_context_manager():
            # Before the batch is moved: on the host, looking at its padding makes no device wait.
            loss = None if self._fast_path is None else self._fast_path.loss(inputs, num_items_in_batch)
        is_scaled = loss is not None and num_items_in_batch is not None
        inputs = self._prepare_inputs(inputs) if loss is None else inputs
        with self.compute_loss_context_manager():
            if loss is None and self._step_takes["compute_loss"]:
                loss = self.compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            elif loss is None:
                loss = self.compute_loss(model, inputs)
        every = self.args.torch_empty_cache_steps
        if every is not None and self.state.global_step % every == 0 and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if lacks_targets and not bool(torch.isfinite(loss.detach()).all()):
            return self._nothing()
        if lacks_targets and self.runtime.world_size > 1 and self._has_no_targets(given):
            loss = loss * 0.0  # whatever it was divided by; the ranks exchange gradients all the same
        if not (is_scaled or self._is_scaled(num_items_in_batch)):
            loss = loss * self._share_of_piece()
        elif self._uneven:
            loss = loss * self._weight_of_rank(self._pieces[self._piece])
        self._scaler.scale(loss).backward()
        return loss.detach()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch: `compute_loss_func`'s, the label smoother's, or the model's own; with the outputs too.

        ValueError for a model that gives none.
        """
        labels = None
        if (self.label_smoother is not None or self.compute_loss_func is not None) and "labels" in inputs:
            labels = inputs.pop("labels")
        targets = inputs.get("labels") if labels is None and isinstance(inputs, Mapping) else labels
        inputs = self._drop_unusable(inputs)
        told = num_items_in_batch
        if self.model_accepts_loss_kwargs and told is not None:
            told = self._probe(told)
            outputs = model(**inputs, num_items_in_batch=told)
        else:
            outputs = model(**inputs)
        if self._metrics is not None and torch.is_grad_enabled() and self.is_in_train:
            self._metrics.add_padded(logits_of(outputs), targets, shifts=traits.is_causal(self.model))
        if self.compute_loss_func is not None:
            loss = self._users_loss(outputs, labels, num_items_in_batch)
        elif labels is not None:
            shifts = traits.is_causal(self.model)
            loss = self.label_smoother(outputs, labels, shift_labels=shifts, num_items_in_batch=num_items_in_batch)
        else:
            loss = loss_of(outputs, inputs)
            if told is None and self._average is None and len(self._pieces) > 1:
                self._observe(loss, outputs, inputs)
            elif told is not num_items_in_batch:
                self._model_divides = depends_on(loss, told)
        if num_items_in_batch is not None and self._tells_targets() and self.args.average_tokens_across_devices:
            loss = loss * self.runtime.data_size if self.runtime.data_size > 1 else loss
        return (loss, outputs) if return_outputs else loss

    def _users_loss(self, outputs: Any, labels: Any, num_items_in_batch: Any) -> Any:
        assert self.compute_loss_func is not None
        if labels is None:
            _log.warning("Trainer: `compute_loss_func` is defined but `labels=None`: it is called with None.")
        if self._step_takes["compute_loss_func"]:
            return self.compute_loss_func(outputs, labels, num_items_in_batch=num_items_in_batch)
        return self.compute_loss_func(outputs, labels)

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """What `compute_loss` runs in."""
        return self.autocast_smart_context_manager()

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[Any]:
        """The precision of forward passes."""
        del cache_enabled
        return _PLAIN if self.runtime.precision == "float32" else self.runtime.autocast()

    # ---- a step's data ----

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The next micro-batches, as many as there are, and the number of targets in all of them on all ranks."""
        samples = []
        for _ in range(num_batches):
            try:
                samples.append(next(epoch_iterator))
            except StopIteration:
                break
        return samples, self._get_num_items_in_batch(samples, device)

    def _get_samples(self, epoch_iterator: Iterator[Any], num_batches: int) -> tuple[list[Any], Any]:
        if self._step_takes["get_batch_samples"]:
            return self.get_batch_samples(epoch_iterator, num_batches, self.args.device)
        return self.get_batch_samples(epoch_iterator, num_batches)  # type: ignore[call-arg]

    # ---- one micro-batch ----

    def _train_on(self, inputs: Any, num_items: Any) -> Tensor:
        """`training_step` as it is defined here or by the user, in the run's precision."""
        self._piece += 1
        model = self.model_wrapped
        if self._step_takes["is_own_step"]:
            return self.training_step(model, inputs, num_items)
        with self.runtime.autocast():
            if self._step_takes["training_step"]:
                return self.training_step(model, inputs, num_items)
            return self.training_step(model, inputs)

    def _inspect_overrides(self) -> None:
        """Look once at which arguments the methods take that users override."""
        names = ("compute_loss", "training_step", "compute_loss_func")
        found = {
            name: getattr(self, name) is not None and takes_argument(getattr(self, name), "num_items_in_batch")
            for name in names
        }
        found["is_own_read"] = traits.is_own(self, Learning, "get_batch_samples")
        found["get_batch_samples"] = takes_argument(self.get_batch_samples, "device")
        found["log"] = takes_positional(self.log, 2)
        found["is_own_loss"] = traits.is_own(self, Learning, "compute_loss")
        found["is_own_step"] = traits.is_own(self, Learning, "training_step")
        self._step_takes = found
