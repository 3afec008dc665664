"""May a model run on packed rows? Known families do; the others are asked, once, by running two documents."""

import logging
from functools import cache
from typing import Any

import torch

from instar.model import attention

log = logging.getLogger(__name__)

_VERIFIED = frozenset(
    "bert roberta xlm-roberta distilbert modernbert electra albert gpt2 llama mistral qwen2 qwen3".split()  # noqa: SIM905
)
"""Families whose packed rows equal padded ones, loss and gradients, by test."""


def is_verified(model_type: str) -> bool:
    """True for families whose packed rows equal padded ones, by test."""
    return model_type in _VERIFIED


@cache
def notice(text: str) -> None:
    """Say something once a process."""
    log.warning(text)


def pack_model(model: Any, position_offset: int, *, is_changed: bool = False) -> bool:
    """Give the model packed attention if its documents then stay what they are; False (and unchanged) if not.

    `is_changed`: somebody changed its modules, so it is asked although its family is known.
    """
    before = model.config._attn_implementation
    is_known = is_verified(model.config.model_type) and not is_changed
    if not is_known and not getattr(model, "_supports_attention_backend", False):
        return False
    attention.register()
    wanted = [] if is_known else _alone(model, position_offset)
    model.set_attn_implementation(attention.NAME)
    if is_known or _together_equals(model, position_offset, wanted):
        return True
    model.set_attn_implementation(before)
    return False


_DOCUMENTS = ((3, 1, 4, 2, 5), (2, 6, 1))


def _ids(model: Any, document: tuple[int, ...]) -> torch.Tensor:
    ids: torch.Tensor = torch.tensor(document) % model.config.vocab_size
    return ids


def gathers_alike(model: Any, position_offset: int) -> bool:
    """Whether the last layer of a packed model, made to leave positions out, gives the others as they were."""
    boundary = len(_DOCUMENTS[0])
    read_M = torch.tensor([1, boundary, boundary + 2])
    wanted = _together(model, position_offset, None)
    found = _together(model, position_offset, read_M)
    return wanted is not None and found is not None and _is_close(found, wanted[read_M])


@torch.no_grad()
def _alone(model: Any, offset: int) -> list[torch.Tensor]:
    states = []
    for document in _DOCUMENTS:
        positions = torch.arange(len(document))[None] + offset
        output = model.base_model.eval()(input_ids=_ids(model, document)[None], position_ids=positions)
        states.append(output.last_hidden_state[0])
    return states


def _together_equals(model: Any, offset: int, wanted: list[torch.Tensor]) -> bool:
    found = _together(model, offset, None)
    return found is not None and _is_close(found, torch.cat(wanted))


@torch.no_grad()
def _together(model: Any, offset: int, read_M: torch.Tensor | None) -> torch.Tensor | None:
    """Last hidden states of the documents in one row; None where the model does not run so."""
    lengths = tuple(len(document) for document in _DOCUMENTS)
    positions = torch.cat([torch.arange(length) for length in lengths])[None] + offset
    ids = torch.cat([_ids(model, document) for document in _DOCUMENTS])[None]
    pack = attention.Pack(lengths, ids.device, read_M)
    try:
        output = model.base_model.eval()(input_ids=ids, position_ids=positions, pack=pack, use_cache=False)
    except Exception as error:  # noqa: BLE001  whatever a model makes of an argument it does not know
        log.debug("%s does not run packed: %r", model.config.model_type, error)
        return None
    states: torch.Tensor = output.last_hidden_state[0]
    return states


def _is_close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.shape == wanted.shape and torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
