"""Attention inside documents on a GPU: torch's varlen kernel, or SDPA over padded groups.

Shape letters: H heads, T tokens, M queries, D width of a head.
"""

import inspect
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from instar.model.attention.pack import Options, Pack

_KERNEL_DTYPES = (torch.float16, torch.bfloat16)


@cache
def _kernel() -> Any | None:
    """torch's varlen attention, or None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


@cache
def _takes_window() -> bool:
    """Torch up to 2.10 takes `is_causal`, later `window_size`."""
    kernel = _kernel()
    return kernel is not None and "window_size" in inspect.signature(kernel).parameters


def can_use_kernel(q: Tensor, options: Options) -> bool:
    """True if the kernel can compute this: CUDA, half precision, no attention dropout, a width it takes."""
    has_window = options.window is not None
    return (
        q.is_cuda
        and q.dtype in _KERNEL_DTYPES
        and not options.dropout
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= 256
        and _kernel() is not None
        and (_takes_window() or not has_window)
        and not (options.read and (options.causal or has_window))
    )


def window_size(options: Options) -> tuple[int, int]:
    """How many keys to the left and to the right a query sees, -1 for all."""
    reach = -1 if options.window is None else options.window - 1
    return (reach, 0 if options.causal else reach)


def varlen_attention(q: Tensor, k: Tensor, v: Tensor, pack: Pack, options: Options) -> Tensor:
    """Attention of q (1, H, M, D) over k, v (1, H, T, D) inside documents; returns (1, M, H, D)."""
    q_MHD, k_THD, v_THD = (x[0].transpose(0, 1) for x in (q, k, v))
    keys_D = pack.cumulative_D
    queries_D = pack.cumulative_read_D if options.read else keys_D
    longest = max(pack.lengths)
    kernel = _kernel()
    assert kernel is not None
    if _takes_window():
        more: dict[str, Any] = {"scale": options.scale, "window_size": window_size(options)}
    else:
        more = {"is_causal": options.causal}
        q_MHD = q_MHD * (options.scale * q.shape[-1] ** 0.5)
    out_MHD: Tensor = kernel(q_MHD, k_THD, v_THD, queries_D, keys_D, longest, longest, **more)
    return out_MHD[None]


def grouped_sdpa(q: Tensor, k: Tensor, v: Tensor, pack: Pack, options: Options) -> Tensor:
    """The same by SDPA, one call a group of near-equal lengths; any device, dtype and dropout."""
    layout = pack.read_layout if options.read else pack.all_layout
    q_MHD, k_THD, v_THD = (x[0].transpose(0, 1) for x in (q, k, v))
    if layout.query_slots_P is not None:
        q_MHD = q_MHD.index_select(0, layout.query_slots_P)
    if layout.key_slots_P is not None:
        k_THD, v_THD = (x.index_select(0, layout.key_slots_P) for x in (k_THD, v_THD))
    outs: list[Tensor] = []
    for number, group in enumerate(layout.groups):
        queries = slice(group.query_start, group.query_start + group.count * group.num_queries)
        keys = slice(group.key_start, group.key_start + group.count * group.num_keys)
        mask = pack.mask(number, group, causal=options.causal, window=options.window, read=options.read)
        out = F.scaled_dot_product_attention(
            q_MHD[queries].unflatten(0, (group.count, group.num_queries)).transpose(1, 2),
            k_THD[keys].unflatten(0, (group.count, group.num_keys)).transpose(1, 2),
            v_THD[keys].unflatten(0, (group.count, group.num_keys)).transpose(1, 2),
            attn_mask=None if mask is None else mask[:, None].to(q.dtype),
            dropout_p=options.dropout,
            scale=options.scale,
        )
        outs.append(out.transpose(1, 2).flatten(0, 1))
    out_MHD = torch.cat(outs)
    if layout.query_places_M is not None:
        out_MHD = out_MHD.index_select(0, layout.query_places_M)
    return out_MHD[None]
