"""A micro-batch's loss and gradient, and its share of the step's.

P pieces of a step.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from instar.api import traits
from instar.api.base import TrainerParts
from instar.api.batches import RoundRows
from instar.api.outputs import takes_argument, takes_positional
from instar.api.pieces import num_rows
from instar.api.structure import Structure

if TYPE_CHECKING:
    from instar.api.fast_path import FastPath

_log = logging.getLogger(__name__)
_PASSING = "RegisterPostBackwardFunctionBackward"
"""FSDP2's node hands on all that goes into a layer, each as it came: what goes past one is no part of the others."""
_PLAIN: AbstractContextManager[None] = nullcontext()


class Learning(TrainerParts):
    """`training_step`, `compute_loss` and what they need; each may be overridden, with the arguments it likes."""

    _pieces: Sequence[Any] = ()
    _piece: int = 0
    _shares: Sequence[Any] | None = None
    """Of each of the step's pieces, once they are asked for."""
    _structure: Structure | None = None
    """Modules and parameters of `model_wrapped`, while training."""
    _uneven: Sequence[tuple[Any, RoundRows]] = ()
    """Micro-batches of the step of which this rank has more or fewer rows than the others, or none; see `Batches`."""
    _step_takes: dict[str, bool]
    """What the methods take that users override; see `_inspect_overrides`."""
    _fast_path: "FastPath | None" = None
    """How micro-batches of a known model and collator are learned from, while training; see `fast_path`."""
    _model_divides: bool | None = None
    """Whether the model divides its loss by the `num_items_in_batch` it is told; None: not seen yet."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of a micro-batch; returns its part of the step's loss.

        The parts of a step add up to the mean over all its targets, however it is cut: a loss that is not divided
        by `num_items_in_batch` already is weighted by its targets where labels can be seen and the loss is the
        model's own, and else by 1 / (number of micro-batches). `loss_is_scaled_for_ga` overrules what was found out.
        """
        structure = self._structure
        model.train() if structure is None or structure.model is not model else structure.train()
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
        inputs = self._drop_unusable(inputs)
        told = num_items_in_batch
        if self.model_accepts_loss_kwargs and told is not None:
            told = self._probe(told)
            outputs = model(**inputs, num_items_in_batch=told)
        else:
            outputs = model(**inputs)
        if self.compute_loss_func is not None:
            loss = self._users_loss(outputs, labels, num_items_in_batch)
        elif labels is not None:
            shifts = traits.is_causal(self.model)
            loss = self.label_smoother(outputs, labels, shift_labels=shifts, num_items_in_batch=num_items_in_batch)
        else:
            loss = _loss_of(outputs, inputs)
            if told is not num_items_in_batch:
                self._model_divides = _depends_on(loss, told)
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

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Targets in the micro-batches; None where nobody is told of them, or none can be seen."""
        if not batch_samples or not (self.model_accepts_loss_kwargs or self.compute_loss_func is not None):
            return None
        counts = [self._count_labels(batch) for batch in batch_samples]
        if any(count is None for count in counts):
            return None
        counted = sum(counts[1:], start=counts[0]).to(device)
        if self.args.average_tokens_across_devices and self.runtime.data_size > 1:
            counted = self.runtime.sum(counted)
        elif self._uneven:
            counted = counted.clamp_min(1.0)
        return counted

    def _count_labels(self, batch: Any) -> Any:
        """Targets of a batch, on its device: labels that are not -100, without those that a shift leaves out."""
        if not hasattr(batch, "keys") or "labels" not in batch:
            return None
        labels = batch["shift_labels"] if "shift_labels" in batch else batch["labels"]
        if not isinstance(labels, Tensor):
            return None
        if self._loss_shifts_labels and "shift_labels" not in batch:
            labels = labels[..., 1:]
        counted = labels.ne(-100).sum().float()
        return counted if self._rank_has_rows(batch) else torch.zeros_like(counted)

    def _get_samples(self, epoch_iterator: Iterator[Any], num_batches: int) -> tuple[list[Any], Any]:
        if self._step_takes["get_batch_samples"]:
            return self.get_batch_samples(epoch_iterator, num_batches, self.args.device)
        return self.get_batch_samples(epoch_iterator, num_batches)  # type: ignore[call-arg]

    # ---- shares ----

    def _rows_of_round(self, batch: Any) -> RoundRows | None:
        return next((rows for known, rows in self._uneven if known is batch), None)

    def _rank_has_rows(self, batch: Any) -> bool:
        """False for a batch that is there only so that this rank takes part in the step."""
        rows = self._rows_of_round(batch)
        return rows is None or rows.mine > 0

    def _weight_of_rank(self, batch: Any) -> float:
        """What a loss of this rank counts for: nothing without rows; as a mean of its own targets, by its rows."""
        rows = self._rows_of_round(batch)
        if rows is None or (rows.mine and self.args.average_tokens_across_devices):
            return 1.0
        return rows.weight(self.runtime.data_size)

    def _begin_pieces(self, pieces: Sequence[Any]) -> None:
        self._pieces, self._piece, self._shares = pieces, -1, None

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

    def _tells_targets(self) -> bool:
        """Whether the loss is divided by the targets that it is told."""
        if self.compute_loss_func is not None or self.label_smoother is not None:
            return True
        return self.model_accepts_loss_kwargs and self._model_divides is not False

    def _is_scaled(self, num_items: Any) -> bool:
        """Whether the loss of a micro-batch is its part of the step's already."""
        if self.loss_is_scaled_for_ga is not None:
            return self.loss_is_scaled_for_ga
        pieces = len(self._pieces) or self.current_gradient_accumulation_steps
        if pieces <= 1 and self.runtime.data_size == 1:
            return True
        return num_items is not None and self._step_takes["compute_loss"] and self._tells_targets()

    def _share_of_piece(self) -> Any:
        """This micro-batch's part of the step, of its targets, rows or number."""
        pieces = self._pieces
        if not pieces:  # called by hand: what the user set
            return 1 / self.current_gradient_accumulation_steps
        if self._shares is None:
            self._shares = self._shares_of_pieces()
        return self._shares[self._piece]

    def _shares_of_pieces(self) -> Sequence[Any]:
        pieces = self._pieces
        if self._step_takes["is_own_loss"] and self.compute_loss_func is None and self.loss_is_scaled_for_ga is None:
            counts = [self._count_labels(piece) for piece in pieces]
            if all(count is not None for count in counts):
                counts_P = torch.stack(counts).to(self.args.device)
                total, ranks = counts_P.sum(), self.runtime.data_size
                if ranks > 1 and self.args.average_tokens_across_devices:
                    total = self.runtime.sum(total) / ranks
                shares_P = counts_P / total.clamp_min(1 / ranks)
                weights = [self._weight_of_rank(piece) for piece in pieces] if self._uneven else []
                return shares_P * shares_P.new_tensor(weights) if weights else shares_P  # type: ignore[return-value]
        if len(pieces) == self.current_gradient_accumulation_steps:
            rounds = [self._rows_of_round(piece) for piece in pieces]
            weights = [1.0 if rows is None else rows.weight(self.runtime.data_size) for rows in rounds]
            return [weight / len(pieces) for weight in weights]
        rows = [num_rows(piece) for piece in pieces]
        return [row / sum(rows) for row in rows]

    def _probe(self, num_items: Any) -> Any:
        """The number of targets, as a leaf of the gradient's graph, until it is known whether the model uses it."""
        decides = len(self._pieces) > 1 or self.runtime.data_size > 1
        known = self._model_divides is not None or not decides or not torch.is_grad_enabled()
        if known or not isinstance(num_items, Tensor) or self.label_smoother is not None or self.compute_loss_func:
            return num_items
        return num_items.detach().clone().float().requires_grad_()


def _loss_of(outputs: Any, inputs: Any) -> Any:
    if isinstance(outputs, dict):
        if "loss" not in outputs:
            raise ValueError(
                "The model did not return a loss from the inputs, only the following keys: "
                f"{','.join(outputs.keys())}. For reference, the inputs it received are {','.join(inputs.keys())}."
            )
        return outputs["loss"]
    return outputs[0]


def _depends_on(loss: Any, leaf: Tensor) -> bool:
    """Whether the leaf is in the graph that the loss was made by."""
    ahead, seen = [(loss.grad_fn, 0)], set()
    while ahead:
        node, output = ahead.pop()
        if node is None or (node, output) in seen:
            continue
        seen.add((node, output))
        if getattr(node, "variable", None) is leaf:
            return True
        before = node.next_functions
        if node.name() == _PASSING:
            before = before[output : output + 1]
        ahead += before
    return False
