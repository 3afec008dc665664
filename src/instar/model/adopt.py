"""A model that somebody else made, on packed rows for as long as they train it.

Shape letters: D documents, L longest document, T tokens, M places with a target.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from instar.model import attention
from instar.model.activation import swap_activations
from instar.model.architecture import position_offset
from instar.model.classes import Head, head_of_architecture
from instar.model.dropout import swap_dropout
from instar.model.gather import gather_last_layer
from instar.model.heads import OutputHead, classifier_head, default_pooling, language_head
from instar.model.network import Network
from instar.model.packing import is_verified


@dataclass(frozen=True, kw_only=True)
class PackedRows:
    """The real tokens of a padded batch, end to end."""

    ids_T: Tensor
    lengths: tuple[int, ...]
    read_M: Tensor | None
    types_T: Tensor | None
    """Segment of each token, where the batch says it."""

    def positions_T(self) -> Tensor:
        """Position of each token in its own document."""
        return torch.cat([torch.arange(length) for length in self.lengths]).to(self.ids_T.device, non_blocking=True)

    def to(self, device: torch.device) -> "PackedRows":
        """The same rows on `device`; the copies do not wait."""
        tensors: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


def head_of(model: Any) -> Head | None:
    """What a Transformers model predicts, by its class; None: something else, or a class of another package."""
    kind = type(model)
    if not kind.__module__.startswith("transformers.models."):
        return None
    return head_of_architecture(kind.__name__)


def adopt(model: Any) -> Network | None:
    """The model as a network that runs packed rows within `packed(model)`, or None where its family is not known.

    Dropout and activations get other code for the same function, and the last layer code that may leave places out;
    modules, parameters, their names, and what the model computes on padded batches stay as they are. `Changes` undoes
    it.
    """
    head = head_of(model)
    if head is None or not is_verified(model.config.model_type):
        return None
    parts: OutputHead | None = classifier_head(model) if head == "classify" else language_head(model)
    if parts is None:
        return None
    attention.register()
    swap_dropout(model)
    swap_activations(model)
    network = Network(
        model,
        head=parts,
        pooling=default_pooling(model) if head == "classify" else None,
        is_packed=True,
        position_offset=position_offset(model.config.model_type, model.config.pad_token_id),
        can_gather=gather_last_layer(model),
    )
    network.own_task = head
    return network


@contextmanager
def packed(model: Any) -> Iterator[None]:
    """Within, the model attends inside the documents of packed rows; after, as it did before."""
    before = model.config._attn_implementation
    model.config._attn_implementation = attention.NAME
    try:
        yield
    finally:
        model.config._attn_implementation = before
