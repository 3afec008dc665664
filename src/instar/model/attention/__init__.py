"""Attention that stays inside documents, registered with Transformers; the one place that chooses a kernel.

Shape letters: H heads, T tokens, M queries, D width of a head.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from instar.model.attention.flash import FlashDocuments
from instar.model.attention.grouped import GroupedAttention
from instar.model.attention.pack import Options, Pack
from instar.model.attention.varlen import can_use_kernel, grouped_sdpa, varlen_attention

__all__ = ["NAME", "CannotPackError", "Options", "Pack", "attend", "register"]

NAME = "instar_packed"
"""The attention's name at Transformers; no mask function has it, so models make no mask."""

_UNDERSTOOD = {"sliding_window", "is_causal"}
_CHANGES_SCORES = ("softcap", "s_aux", "position_bias", "cache_position_bias")


class CannotPackError(Exception):
    """The model wants something of its attention that packed attention does not do."""


@cache
def register() -> None:
    """Make the attention known to Transformers; once a process."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, packed_attention)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  part of the convention; models make none for this name
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention by Transformers' convention: q (1, H, T, D), k, v (1, heads of keys, T, D); gives (1, T, H, D)."""
    pack = options.get("pack")
    changed = [name for name in _CHANGES_SCORES if options.get(name) is not None]
    if pack is None or changed or key.shape[2] != sum(pack.lengths):
        raise CannotPackError(f"{type(module).__name__} {changed or 'lost the document boundaries'}")
    causal = options.get("is_causal")
    scaling = options.get("scaling")
    chosen = Options(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        dropout=options.get("dropout") or 0.0,
        causal=bool(getattr(module, "is_causal", False) if causal is None else causal),
        window=options.get("sliding_window"),
        read=False,
    )
    return attend(query, key, value, pack, chosen), None


def attend(q: Tensor, k: Tensor, v: Tensor, pack: Pack, options: Options) -> Tensor:
    """Attention of q (1, H, M, D) over k, v inside documents; returns (1, M, H, D), in autocast's type where it is on.

    A CPU computes in float32 or better: its half-precision kernels are the slower ones.
    """
    kind = q.device.type
    given = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else v.dtype
    wanted = torch.promote_types(given, torch.float32) if kind == "cpu" else given
    with torch.autocast(kind, enabled=False):
        return _attend(q.to(wanted), k.to(wanted), v.to(wanted), pack, options).to(given)


def _attend(q: Tensor, k: Tensor, v: Tensor, pack: Pack, options: Options) -> Tensor:
    if k.shape[1] != q.shape[1] and not can_use_kernel(q, options):
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    if can_use_kernel(q, options):
        return varlen_attention(q, k, v, pack, options)
    if q.device.type != "cpu" or torch.compiler.is_compiling():
        return grouped_sdpa(q, k, v, pack, options)
    sees_all = options.window is None or options.window >= max(pack.lengths)
    if not options.dropout and sees_all and not (options.read and options.causal):
        flash: Tensor = FlashDocuments.apply(q, k, v, (pack, options))  # type: ignore[no-untyped-call]
        return flash.transpose(1, 2)
    grouped: Tensor = GroupedAttention.apply(q, k, v, (pack, options))  # type: ignore[no-untyped-call]
    return grouped
