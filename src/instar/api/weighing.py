"""What each micro-batch counts for in its step.

P micro-batches of a step.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from instar.api import traits
from instar.api.agreement import evaluating
from instar.api.averaging import Average, averaged_over, joined, labels_of
from instar.api.base import TrainerParts
from instar.api.batches import RoundRows
from instar.api.pieces import cut, first_rows, is_out_of_memory, num_rows

_log = logging.getLogger(__name__)
_PASSING = "RegisterPostBackwardFunctionBackward"
"""FSDP2's node hands on all that goes into a layer, each as it came: what goes past one is no part of the others."""
_MOST_TRIES = 8
"""Batches that are looked at: one whose labels tell too little is followed by another."""
_OVER_LABELS = (Average.LABELS, Average.SHIFTED)
_OVER_OTHERS = (Average.VALUES, Average.BATCH)


class Weighing(TrainerParts):
    """Weighs the micro-batches of a step by what the model's loss really averages, so far as that can be found."""

    _pieces: Sequence[Any] = ()
    _piece: int = 0
    _shares: Sequence[Any] | None = None
    """Of each of the step's pieces, once they are asked for."""
    _uneven: Sequence[tuple[Any, RoundRows]] = ()
    """Micro-batches of the step of which this rank has more or fewer rows than the others, or none; see `Batches`."""
    _average: Average | None = None
    """What the model's own loss is a mean over; None: not found yet."""
    _average_tries: int = 0
    _average_is_confirmed: bool = False
    _average_is_shared: bool = False
    """Whether all ranks have compared what they found."""
    _num_without_targets: int = 0
    """Micro-batches of the step that had no target so far."""
    _model_divides: bool | None = None
    """Whether the model divides its loss by the `num_items_in_batch` it is told; None: not seen yet."""

    # ---- what the loss averages ----

    @property
    def _is_models_loss(self) -> bool:
        return self.compute_loss_func is None and self.label_smoother is None

    def _observe(self, loss: Any, outputs: Any, inputs: Any) -> None:
        """Find out what the model's loss averages from a forward pass that was not told the number of targets."""
        is_done = self._average is not None or self._average_tries >= _MOST_TRIES
        if is_done or not isinstance(loss, Tensor) or not self._is_models_loss:
            return
        self._average_tries += 1
        self._average = averaged_over(loss, outputs, inputs, self._ignored_label)

    def _find_average(self, batches: Sequence[Any]) -> None:
        """Find out what the loss averages before it is told by what to divide; costs a forward pass, once.

        Of batches of one row, several are looked at together: one row has one mean, whatever it is of.
        """
        batch = batches[0] if num_rows(batches[0]) > 1 else self._joined(batches) or batches[0]
        if labels_of(batch) is None:
            return
        try:
            self._look_at(batch)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            if batch is batches[0] or is_out_of_memory(error):
                raise
            self._average_tries += 1  # padding that the model does not know, which the user's batches do not have

    def _joined(self, batches: Sequence[Any]) -> dict[str, Any] | None:
        """Batches as one, where that can be tried: on a GPU, a label that the model does not know ends the process."""
        both = joined(batches, self._ignored_label)
        if both is None or self.runtime.device.type == "cpu":
            return both
        *each, padded = (
            labels is not None and bool((labels == self._ignored_label).any())
            for labels in map(labels_of, (*batches, both))
        )
        return both if any(each) or not padded else None

    def _look_at(self, batch: Any) -> None:
        model = self.model_wrapped if self.runtime.is_sharded else self.model
        device = self.runtime.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), evaluating(model), torch.no_grad(), self.runtime.autocast():
            inputs = self._prepare_inputs(batch)
            loss, outputs = self._models_loss(model, inputs)
            self._observe(loss, outputs, inputs)
            if self.model_accepts_loss_kwargs and self._average not in _OVER_LABELS and isinstance(loss, Tensor):
                self._average = self._average_by_dividing(model, inputs, loss.float().mean())

    def _confirm_average(self) -> None:
        """Look again where it was found with one row, whose mean may be one of anything."""
        over_labels = self._average in _OVER_LABELS and not self._average_is_confirmed
        if over_labels and len(self._pieces) > 1 and num_rows(self._pieces[0]) == 1:
            self._average, self._average_tries = None, 0
            self._find_average(self._pieces)
            if self._average is None:
                self._average = Average.BATCH
        self._average_is_confirmed = self._average is not None

    def _average_by_dividing(self, model: Any, inputs: Any, loss: Tensor) -> Average | None:
        """What the loss averages by how it changes when it is told another number of targets; else what it was."""
        labels = labels_of(inputs)
        if labels is None or labels.is_floating_point() or not bool(torch.isfinite(loss)) or not bool(loss):
            return self._average
        is_target = labels != self._ignored_label
        counts = {Average.LABELS: is_target.sum(), Average.SHIFTED: is_target[..., 1:].sum()}
        told = 2.0 * counts[Average.LABELS]
        divided, _ = self._models_loss(model, inputs, num_items_in_batch=told)
        real = (told * divided.float().mean() / loss).item()
        matching = [average for average, count in counts.items() if abs(real - count.item()) <= 1e-3 * real]
        return matching[0] if len(matching) == 1 else self._average

    def _models_loss(self, model: Any, inputs: Any, **told: Any) -> tuple[Any, Any]:
        """The model's own loss and its outputs."""
        outputs = model(**self._drop_unusable(inputs), **told)
        return loss_of(outputs, inputs), outputs

    def _share_average(self) -> None:
        """Let all ranks weigh alike: by what all that found something found, or by batches."""
        if self.runtime.data_size == 1 or self._average_is_shared:
            return
        kinds = list(Average)
        votes = torch.tensor([float(kind is self._average) for kind in kinds], device=self.runtime.device)
        found = [kind for kind, vote in zip(kinds, self.runtime.sum(votes).tolist(), strict=True) if vote]
        self._average = (found[0] if len(found) == 1 else Average.BATCH) if found else None
        self._average_is_shared = bool(found)

    # ---- batches that memory does not hold ----

    def _may_be_cut(self, parts: int) -> bool:
        """Whether a step stays what it is when its micro-batches are cut: tried on as many rows as memory holds."""
        takes = self._step_takes
        if not (takes["is_own_loss"] and takes["is_own_step"]) or self.compute_loss_func is not None:
            return False
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules()):
            return False
        some = cut(self._pieces[0], parts)[0]
        some = some if num_rows(some) > 1 else first_rows(self._pieces[0], 2)
        while num_rows(some) > 1:
            try:
                return self._is_additive(some)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            some = cut(some, 2)[0]
        return False

    def _is_additive(self, batch: Any) -> bool:
        """Whether the loss of some rows is the mean of the losses of each half of them, weighed by their targets."""
        if self._average is None and self.label_smoother is None:
            self._find_average([batch])
        devices = [self.runtime.device] if self.runtime.device.type == "cuda" else []
        with torch.random.fork_rng(devices), evaluating(self.model), torch.no_grad(), self.runtime.autocast():
            whole, *halves = (
                self.compute_loss(self.model, self._prepare_inputs(dict(one))) for one in (batch, *cut(batch, 2))
            )
        if self._average not in (*_OVER_LABELS, Average.VALUES) and self.label_smoother is None:
            return False
        weighed = [(loss, float(self._count_labels(one))) for loss, one in zip(halves, cut(batch, 2), strict=True)]
        mean = sum(float(loss) * count for loss, count in weighed if count) / sum(count for _, count in weighed)
        return abs(mean - float(whole)) <= 1e-3 * max(1.0, abs(mean))

    # ---- targets ----

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        """Targets in the micro-batches; None where nobody is told of them, or none can be seen."""
        if not batch_samples or not (self.model_accepts_loss_kwargs or self.compute_loss_func is not None):
            return None
        if self._is_models_loss:
            if self._average is None and self._average_tries < _MOST_TRIES:
                self._find_average(batch_samples)
            self._share_average()
            if self._average is Average.BATCH:
                return None
        counts = [self._count_labels(batch) for batch in batch_samples]
        if any(count is None for count in counts):
            return None
        counted = sum(counts[1:], start=counts[0]).to(device)
        if self.args.average_tokens_across_devices and self.runtime.data_size > 1:
            counted = self.runtime.sum(counted)
        return counted.clamp_min(1.0)

    def _count_labels(self, batch: Any) -> Any:
        """Targets of a batch, on the device of its labels, without those that a shift leaves out."""
        labels = labels_of(batch)
        if labels is None:
            return None
        if self._average is Average.VALUES:
            counted = torch.tensor(float(labels.numel()))
        else:
            read = labels[..., 1:] if self._shifts_labels() and "shift_labels" not in batch else labels
            counted = read.ne(self._ignored_label).sum().float()
        return counted if self._rank_has_rows(batch) else torch.zeros_like(counted)

    def _shifts_labels(self) -> bool:
        if self.label_smoother is not None:
            return traits.is_causal(self.model)
        if self._average is None or self.compute_loss_func is not None:
            return self._loss_shifts_labels
        return self._average is Average.SHIFTED

    def _has_no_targets(self, batch: Any) -> bool:
        """True for integer labels that are all passed over; asked for every micro-batch, so with few calls."""
        labels = batch.get("labels") if type(batch) is dict and "shift_labels" not in batch else labels_of(batch)
        if type(labels) is not Tensor or labels.is_floating_point() or self._average in _OVER_OTHERS:
            return False
        if self._average is Average.SHIFTED and type(batch) is dict:
            labels = labels[..., 1:]
        return not (labels != self._ignored_label).any()

    def _nothing(self) -> Tensor:
        """The loss of a micro-batch without a target."""
        self._num_without_targets += 1
        return torch.zeros((), device=self.args.device)

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
        self._num_without_targets = 0

    def _tells_targets(self) -> bool:
        """Whether the loss is divided by the targets that it is told."""
        if self.compute_loss_func is not None:
            return self._step_takes["compute_loss_func"]
        if self.label_smoother is not None:
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
            self._confirm_average()
            self._share_average()
            counts: list[Any] = [] if self._average is Average.BATCH else list(map(self._count_labels, pieces))
            if counts and all(count is not None for count in counts):
                return self._shares_by_targets(torch.stack(counts).to(self.args.device))
            if labels_of(pieces[0]) is not None:
                self._say_once(
                    f"{type(self.model).__name__}: its loss is no mean over the labels of a batch, as far as it can be "
                    "computed again from its outputs, so that the micro-batches of a step weigh alike, whatever their "
                    "labels are"
                )
        if len(pieces) == self.current_gradient_accumulation_steps:
            rounds = [self._rows_of_round(piece) for piece in pieces]
            weights = [1.0 if rows is None else rows.weight(self.runtime.data_size) for rows in rounds]
            return [weight / len(pieces) for weight in weights]
        rows = [num_rows(piece) for piece in pieces]
        return [row / sum(rows) for row in rows]

    def _shares_by_targets(self, counts_P: Tensor) -> Sequence[Any]:
        total, ranks = counts_P.sum(), self.runtime.data_size
        if ranks > 1 and self.args.average_tokens_across_devices:
            total = self.runtime.sum(total) / ranks
        shares_P = counts_P / total.clamp_min(1 / ranks)
        weights = [self._weight_of_rank(piece) for piece in self._pieces] if self._uneven else []
        return shares_P * shares_P.new_tensor(weights) if weights else shares_P  # type: ignore[return-value]

    def _probe(self, num_items: Any) -> Any:
        """The number of targets, as a leaf of the gradient's graph, until it is known whether the model uses it."""
        decides = len(self._pieces) > 1 or self.runtime.data_size > 1
        known = self._model_divides is not None or not decides or not torch.is_grad_enabled()
        if known or not isinstance(num_items, Tensor) or not self._is_models_loss:
            return num_items
        return num_items.detach().clone().float().requires_grad_()


def loss_of(outputs: Any, inputs: Any) -> Any:
    """The loss among a model's outputs; ValueError where there is none."""
    if isinstance(outputs, dict):
        if "loss" not in outputs:
            raise ValueError(
                "The model did not return a loss from the inputs, only the following keys: "
                f"{','.join(outputs.keys())}. For reference, the inputs it received are {','.join(inputs.keys())}."
            )
        return outputs["loss"]
    return outputs[0]


def depends_on(loss: Any, leaf: Tensor) -> bool:
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
