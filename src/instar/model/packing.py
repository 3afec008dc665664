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


def pack_model(model: Any, position_offset: int) -> bool:
    """Give the model packed attention if its documents then stay what they are; False (and unchanged) if not."""
    before = model.config._attn_implementation
    is_known = is_verified(model.config.model_type)
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


@torch.no_grad()
def _alone(model: Any, offset: int) -> list[torch.Tensor]:
    states = []
    for document in _DOCUMENTS:
        positions = torch.arange(len(document))[None] + offset
        output = model.base_model.eval()(input_ids=_ids(model, document)[None], position_ids=positions)
        states.append(output.last_hidden_state[0])
    return states


@torch.no_grad()
def _together_equals(model: Any, offset: int, wanted: list[torch.Tensor]) -> bool:
    lengths = tuple(len(document) for document in _DOCUMENTS)
    positions = torch.cat([torch.arange(length) for length in lengths])[None] + offset
    ids = torch.cat([_ids(model, document) for document in _DOCUMENTS])[None]
    pack = attention.Pack(lengths, ids.device)
    try:
        output = model.base_model.eval()(input_ids=ids, position_ids=positions, pack=pack, use_cache=False)
    except Exception as error:  # noqa: BLE001  whatever a model makes of an argument it does not know
        log.debug("%s does not run packed: %r", model.config.model_type, error)
        return False
    same: bool = torch.allclose(output.last_hidden_state[0], torch.cat(wanted), rtol=1e-4, atol=1e-5)
    return same
