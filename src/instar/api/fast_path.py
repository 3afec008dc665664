"""Padded batches of well-known models on packed rows: the same loss and gradients, several times faster.

Shape letters: D documents, L longest document, T tokens, M places with a target.
"""

import logging
from collections.abc import Mapping
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from instar.model.adopt import PackedRows, adopt, head_of, packed
from instar.model.network import Network

_log = logging.getLogger(__name__)
_KEYS = {"input_ids", "attention_mask", "token_type_ids", "labels"}
_IGNORED = -100


class FastPath:
    """The training loss of a model and a batch that instar knows, computed on the batch's real tokens alone.

    Exact: the loss is that of `model(**inputs)` up to rounding, dropout draws apart. A batch it cannot stand for
    (left padding, other inputs, labels on padding) gives None, and goes the plain way.
    """

    def __init__(self, network: Network, head: str) -> None:
        self._network = network
        self._head = head
        self._takes_types = "token_type_ids" in signature(network.model.base_model.forward).parameters

    @classmethod
    def of(cls, trainer: Any) -> "FastPath | None":
        """The fast path of a trainer about to train, or None; which, and why, is said once in the log."""
        if not trainer.args.fast_path or head_of(trainer.model) is None:
            return None
        obstacle = _obstacle(trainer)
        network = None if obstacle else adopt(trainer.model)
        name = type(trainer.model).__name__
        if network is None:
            _say(f"{name} trains on padded batches: {obstacle or 'its family is not known here'}")
            return None
        _say(f"{name} trains on packed rows: the same loss without the padding (fast_path=False turns it off)")
        return cls(network, str(head_of(trainer.model)))

    def loss(self, inputs: Mapping[str, Any], num_items_in_batch: Tensor | int | None = None) -> Tensor | None:
        """Mean over the batch's targets, or their sum over `num_items_in_batch`; None: the batch goes the plain way."""
        prepared = self._prepared(inputs)
        if prepared is None:
            return None
        device = self._network.model.device
        rows, target_M = prepared[0].to(device), prepared[1].to(device, non_blocking=True)
        with packed(self._network.model):
            total: Tensor = self._network(rows).cross_entropy(target_M).nll_M.sum()
        return total / (len(target_M) if num_items_in_batch is None else num_items_in_batch)

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
        """True where the model looks for padding ids itself, and would find them among real tokens."""
        config = self._network.model.config
        looks = self._network.offsets_positions or self._network.pooling == "last"
        if not looks:
            return False
        if config.pad_token_id is None:
            return len(ids_DL) > 1
        return bool(((ids_DL == config.pad_token_id) & real_DL).any())

    def _label_places(self, labels: Tensor, real_DL: Tensor) -> tuple[Tensor | None, Tensor] | None:
        """Where in the packed row something is predicted, and what."""
        if self._head == "classify":
            return self._class_labels(labels)
        if labels.shape != real_DL.shape:
            return None
        counts_DL = labels != _IGNORED
        if self._head == "causal_lm":  # a token's state predicts the token after it
            labels = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=_IGNORED)
            counts_DL = labels != _IGNORED
            following_DL = torch.nn.functional.pad(real_DL[:, 1:], (0, 1))
            if bool((counts_DL & ~following_DL).any()):
                return None
        if bool((counts_DL & ~real_DL).any()) or not bool(counts_DL.any()):
            return None
        return counts_DL[real_DL].nonzero()[:, 0], labels[counts_DL]

    def _class_labels(self, labels: Tensor) -> tuple[None, Tensor] | None:
        config = self._network.model.config
        if config.problem_type is None and config.num_labels > 1:
            config.problem_type = "single_label_classification"
        if config.problem_type != "single_label_classification" or bool((labels == _IGNORED).any()):
            return None
        return None, labels.reshape(-1)


def _real(ids_DL: Tensor, mask_DL: Tensor | None) -> Tensor | None:
    """True at real tokens; None unless all padding stands at the end of rows that are not empty."""
    if mask_DL is None:
        return torch.ones_like(ids_DL, dtype=torch.bool)
    if mask_DL.shape != ids_DL.shape:
        return None
    real_DL = mask_DL.bool()
    from_left_DL = torch.arange(ids_DL.shape[1], device=ids_DL.device) < real_DL.sum(1, keepdim=True)
    return real_DL if bool((real_DL == from_left_DL).all() and real_DL[:, 0].all()) else None


def _obstacle(trainer: Any) -> str | None:
    """Why this trainer's loss is not simply that of its model, or None."""
    model, args = trainer.model, trainer.args
    obstacles = {
        "compute_loss is overridden": not type(trainer).compute_loss.__module__.startswith("instar."),
        "_prepare_inputs is overridden": not type(trainer)._prepare_inputs.__module__.startswith("instar."),
        "compute_loss_func is given": trainer.compute_loss_func is not None,
        "label smoothing": trainer.label_smoother is not None,
        "loss_is_scaled_for_ga is set": trainer.loss_is_scaled_for_ga is not None,
        "NEFTune noise": args.neftune_noise_alpha is not None,
        "activation checkpointing": any(getattr(part, "gradient_checkpointing", False) for part in model.modules()),
        "torch.compile": args.torch_compile,
        "several processes": trainer.runtime.world_size > 1,
        "attention weights or hidden states are asked for": _asks_for_states(model.config),
        "the model has forward hooks": bool(model._forward_hooks or model._forward_pre_hooks),
        "the model is quantised": getattr(model, "hf_quantizer", None) is not None,
    }
    return next((reason for reason, stands in obstacles.items() if stands), None)


def _asks_for_states(config: Any) -> bool:
    return bool(config.output_attentions or config.output_hidden_states)


@cache
def _say(text: str) -> None:
    _log.warning(text)
