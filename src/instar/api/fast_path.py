"""Padded batches of well-known models on packed rows: the same loss and gradients, several times faster.

Shape letters: D documents, L longest document, T tokens, M places with a target.
"""

import logging
import math
from collections.abc import Mapping
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from instar.api import traits
from instar.api.agreement import compare
from instar.api.averaging import Average
from instar.api.learning import Learning
from instar.api.loading import Loading
from instar.api.pieces import is_out_of_memory
from instar.api.training_metrics import TrainingMetrics
from instar.model import Head
from instar.model.adopt import PackedRows, adopt, head_of, packed
from instar.model.network import Network
from instar.model.stock import Watch, deviation, global_hooks, is_library_function
from instar.task import default_task

_log = logging.getLogger(__name__)
_KEYS = {"input_ids", "attention_mask", "token_type_ids", "labels"}
_IGNORED = -100


class FastPath:
    """The training loss of a model and a batch that instar knows, computed on the batch's real tokens alone.

    Exact: the loss is that of `model(**inputs)` up to rounding, dropout draws apart. It is taken for stock models of
    Transformers only, module by module, and after the losses and gradients of the first batch agreed. A batch it
    cannot stand for (left padding, other inputs, labels on padding) gives None, and goes the plain way.
    """

    def __init__(self, network: Network, head: Head, trainer: Any) -> None:
        self._network = network
        self._task = default_task(head)
        self._trainer = trainer
        self._watch = Watch(network.model)
        self._agrees: bool | None = None
        """Whether the first batch's losses agreed; None: not compared yet."""
        self._takes_types = "token_type_ids" in signature(network.model.base_model.forward).parameters

    @classmethod
    def of(cls, trainer: Any) -> "FastPath | None":
        """The fast path of a trainer about to train, or None; which, and why, is said once in the log."""
        if not trainer.args.fast_path:
            return None
        model = trainer.model
        name, head = type(model).__name__, head_of(model)
        if head is None:
            _log.info(_plainly(name, "packed rows are for models of Transformers with a language or class head"))
            return None
        obstacle = _obstacle(trainer) or deviation(model)
        network = None if obstacle else adopt(model)
        if network is None:
            _say(_plainly(name, obstacle or "packed rows are not known for its family"))
            return None
        return cls(network, head, trainer)

    @property
    def average(self) -> Average:
        """What its losses are means over."""
        return Average.SHIFTED if self._task.reads_forward else Average.LABELS

    def loss(self, inputs: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor | None:
        """Mean over the batch's targets, or their sum over `num_items_in_batch`; None: the batch goes the plain way."""
        if self._agrees is False or not self._is_unchanged():
            return None
        prepared = self._prepared(inputs)
        if prepared is None or not (self._agrees or self._compared(inputs, prepared)):
            return None
        total = self._sum(prepared, self._trainer._metrics)
        return total / (len(prepared[1]) if num_items_in_batch is None else num_items_in_batch)

    def _sum(self, prepared: tuple[PackedRows, Tensor], metrics: TrainingMetrics | None = None) -> Tensor:
        device = self._network.model.device
        rows, target_M = prepared[0].to(device), prepared[1].to(device, non_blocking=True)
        with packed(self._network.model):
            outputs = self._network(rows)
            total: Tensor = outputs.cross_entropy(target_M).nll_M.sum()
            if metrics is not None:
                with torch.no_grad():
                    metrics.add(outputs.logits_MV(), target_M)
        return total

    def _is_unchanged(self) -> bool:
        """Whether model and trainer are as they were when training began; otherwise the fast path is left for good."""
        change = self._watch.change() or _overridden(self._trainer)
        if change is not None:
            self._agrees = False
            _say(_plainly(type(self._network.model).__name__, f"from now on, since {change}"))
        return change is None

    def _compared(self, inputs: Mapping[str, Any], prepared: tuple[PackedRows, Tensor] | None) -> bool:
        """Compare this batch's loss and gradient with those of the plain way; once, in training."""
        if not torch.is_grad_enabled() or prepared is None:
            return False
        trainer, name, count = self._trainer, type(self._network.model).__name__, len(inputs["input_ids"])
        metrics, trainer._metrics = trainer._metrics, None  # the batch counts once, when it trains
        try:
            found = compare(
                self._network.model,
                lambda: trainer.compute_loss(trainer.model, trainer._prepare_inputs(inputs)),
                lambda: self._sum(prepared) / len(prepared[1]),
            )
        except Exception as error:
            if is_out_of_memory(error) and count > 1:  # padding takes more than packed rows do
                half = {key: value[: count // 2] for key, value in inputs.items()}
                return self._compared(half, self._prepared(half))
            raise
        finally:
            trainer._metrics = metrics
        if not math.isfinite(found.own_loss):
            return False
        self._agrees = bool(found)
        if found:
            _say(
                f"{name} trains on packed rows: the same loss without the padding; the first batch by its own forward "
                f"pass and on packed rows: {found} (fast_path=False turns it off)"
            )
        else:
            _say(_plainly(name, f"the first batch differs by its own forward pass and on packed rows: {found}"))
        return self._agrees

    def _prepared(self, inputs: Mapping[str, Any]) -> tuple[PackedRows, Tensor] | None:
        """The batch's real tokens, and what is to be predicted."""
        ids_DL, labels = inputs.get("input_ids"), inputs.get("labels")
        if ids_DL is None or labels is None or not _KEYS.issuperset(inputs) or labels.is_floating_point():
            return None
        real_DL = _real(ids_DL, inputs.get("attention_mask"))
        if real_DL is None or self._reads_padding(ids_DL, real_DL):
            return None
        lengths = tuple(real_DL.sum(1).tolist())
        placed = self._label_places(labels, real_DL)
        if placed is None:
            return None
        read_M, target_M = placed
        types_DL = inputs.get("token_type_ids")
        if types_DL is not None and not self._takes_types:
            return None
        types_T = None if types_DL is None else types_DL[real_DL]
        return PackedRows(ids_T=ids_DL[real_DL], lengths=lengths, read_M=read_M, types_T=types_T), target_M

    def _reads_padding(self, ids_DL: Tensor, real_DL: Tensor) -> bool:
        """True where the model looks for padding ids itself, and would find others than the attention mask tells."""
        pad_id = self._network.model.config.pad_token_id
        if self._network.pooling == "last":  # the last token is found by the padding after it
            return len(ids_DL) > 1 if pad_id is None else not torch.equal(ids_DL != pad_id, real_DL)
        return self._network.offsets_positions and bool(((ids_DL == pad_id) & real_DL).any())

    def _label_places(self, labels: Tensor, real_DL: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """Where in the packed row something is predicted, and what."""
        if self._task.learns_labels:
            return self._class_labels(labels, len(real_DL))
        if labels.shape != real_DL.shape:
            return None
        counts_DL = labels != _IGNORED
        if self._task.reads_forward:  # a token's state predicts the token after it
            labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=_IGNORED)
            counts_DL = labels != _IGNORED
            following_DL = torch.nn.functional.pad(real_DL[:, 1:], (0, 1))
            if bool((counts_DL & ~following_DL).any()):
                return None
        if bool((counts_DL & ~real_DL).any()) or not bool(counts_DL.any()):
            return None
        return counts_DL[real_DL].nonzero()[:, 0], labels[counts_DL]

    def _class_labels(self, labels: Tensor, num_rows: int) -> tuple[None, Tensor] | None:
        config = self._network.model.config
        if config.problem_type is None and config.num_labels > 1:
            config.problem_type = "single_label_classification"
        if config.problem_type != "single_label_classification" or bool((labels == _IGNORED).any()):
            return None
        if labels.numel() != num_rows:
            return None
        return None, labels.reshape(-1)


def _real(ids_DL: Tensor, mask_DL: Tensor | None) -> Tensor | None:
    """True at real tokens; None unless all padding stands at the end of rows that are not empty."""
    if mask_DL is None:
        return torch.ones_like(ids_DL, dtype=torch.bool)
    if mask_DL.shape != ids_DL.shape:
        return None
    real_DL = mask_DL.bool()
    if not torch.equal(real_DL.to(mask_DL.dtype), mask_DL):  # a weight of attention, and no mask
        return None
    from_left_DL = torch.arange(ids_DL.shape[1], device=ids_DL.device) < real_DL.sum(1, keepdim=True)
    return real_DL if bool((real_DL == from_left_DL).all() and real_DL[:, 0].all()) else None


def _plainly(name: str, reason: str) -> str:
    return f"{name} trains on padded batches: {reason}"


def _overridden(trainer: Any) -> str | None:
    """The first method that makes a loss or its inputs and is not instar's own."""
    for owner, name in ((Learning, "compute_loss"), (Loading, "_prepare_inputs"), (Loading, "_prepare_input")):
        if not traits.is_own(trainer, owner, name):
            return f"{name} is overridden"
    return None


def _obstacle(trainer: Any) -> str | None:
    """Why this trainer's loss is not simply that of its model, or None."""
    model, args = trainer.model, trainer.args
    obstacles = {
        "compute_loss_func is given": trainer.compute_loss_func is not None,
        "label smoothing": trainer.label_smoother is not None,
        "loss_is_scaled_for_ga is set": trainer.loss_is_scaled_for_ga is not None,
        "NEFTune noise": args.neftune_noise_alpha is not None,
        "activation checkpointing": any(getattr(part, "gradient_checkpointing", False) for part in model.modules()),
        "torch.compile": args.torch_compile,
        "torch's dropout was replaced": not is_library_function(torch.nn.functional.dropout),
        "several processes": trainer.runtime.world_size > 1,
        "the model is wrapped": trainer.model_wrapped is not model,
        "attention weights or hidden states are asked for": _asks_for_states(model.config),
        "it returns tuples (return_dict=False)": not getattr(model.config, "return_dict", True),
        "the feed-forward layers work in chunks": bool(getattr(model.config, "chunk_size_feed_forward", 0)),
        "its attention is none of Transformers' own": not _is_stock_attention(model.config),
        "the model is quantised": getattr(model, "hf_quantizer", None) is not None,
    }
    found = next((reason for reason, stands in obstacles.items() if stands), None)
    return found or _overridden(trainer) or global_hooks()


def _is_stock_attention(config: Any) -> bool:
    """Whether attention is computed by a function that Transformers brought along."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    name = config._attn_implementation
    return name == "eager" or is_library_function(ALL_ATTENTION_FUNCTIONS.get(name))


def _asks_for_states(config: Any) -> bool:
    return bool(config.output_attentions or config.output_hidden_states)


@cache
def _say(text: str) -> None:
    _log.warning(text)
