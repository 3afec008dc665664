"""Attention in groups of near-equal length, with dropout: plain products over blocks that fit the cache.

Probabilities of documents up to KEPT tokens are kept for the backward pass; those of longer ones are computed again, so
that memory grows with the tokens and not with their square.
Shape letters: H heads, T tokens, P slots, B blocks (documents x heads), Q queries, K keys, D width of a head.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from instar.model.attention.pack import Group, Layout, Options, Pack
from instar.model.dropout import draw_seed, keep_scale, kept, scaled
from instar.model.speed import plain_matmul

CHUNK = 1 << 20
"""Scores in a chunk (4 MB in float32)."""

KEPT = 512
"""Keys up to which probabilities are kept; beyond, they would outweigh a layer's other activations."""

SHORT = 192
"""Keys up to which a block's products are too small for oneDNN's set-up."""


Chunk = tuple[slice, Tensor, Tensor | None]
"""Which blocks, their probabilities, and which of those dropout keeps."""


class GroupedAttention(torch.autograd.Function):
    """Attention of q (1, H, M, D) over k, v (1, H, T, D) inside documents; returns (1, M, H, D)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, job: tuple[Pack, Options]) -> Tensor:
        pack, options = job
        layout = pack.read_layout if options.read else pack.all_layout
        seed = draw_seed() if options.dropout else 0
        q_PHD = _slots(q, layout.query_slots_P)
        k_PHD, v_PHD = (_slots(x, layout.key_slots_P) for x in (k, v))
        out_PHD = torch.empty_like(q_PHD)
        made: dict[int, list[Chunk]] = {}
        for number, group in enumerate(layout.groups):
            mask = pack.mask(number, group, causal=options.causal, window=options.window, read=options.read)
            with _products(group):
                q_BQD, k_BKD, v_BKD = _blocks(group, q_PHD, k_PHD, v_PHD)
                out_BQD = torch.empty_like(q_BQD)
                for part, weights, keep in _weights(q_BQD * options.scale, k_BKD, mask, options, seed + number):
                    seen = weights if keep is None else scaled(weights, keep, keep_scale(options.dropout))
                    torch.bmm(seen, v_BKD[part], out=out_BQD[part])
                    if group.num_keys <= KEPT:
                        made.setdefault(number, []).append((part, weights, keep))
            _store(group, out_BQD, out_PHD, queries=True)
        ctx.save_for_backward(q_PHD, k_PHD, v_PHD)
        ctx.options, ctx.pack, ctx.seed, ctx.made = options, pack, seed, made
        places = layout.query_places_M
        return (out_PHD if places is None else out_PHD.index_select(0, places))[None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_PHD, k_PHD, v_PHD = ctx.saved_tensors
        options, pack, made = ctx.options, ctx.pack, ctx.made
        layout: Layout = pack.read_layout if options.read else pack.all_layout
        grad_PHD = grads[0][0]
        if layout.query_places_M is not None:
            grad_PHD = torch.zeros_like(q_PHD).index_copy_(0, layout.query_places_M, grad_PHD)
        moved = [torch.empty_like(x) for x in (q_PHD, k_PHD, v_PHD)]
        for number, group in enumerate(layout.groups):
            mask = pack.mask(number, group, causal=options.causal, window=options.window, read=options.read)
            with _products(group):
                q_BQD, k_BKD, v_BKD = _blocks(group, q_PHD, k_PHD, v_PHD)
                blocks = (q_BQD * options.scale, k_BKD, v_BKD, _block(group, grad_PHD, queries=True))
                chunks = made.get(number) or _weights(blocks[0], blocks[1], mask, options, ctx.seed + number)
                results = _group_backward(blocks, chunks, options)
            for target, result, queries in zip(moved, results, (True, False, False), strict=True):
                _store(group, result, target, queries=queries)
        dq = _unslot(moved[0], layout.query_places_M)
        dk, dv = (_unslot(x, layout.key_places_T) for x in moved[1:])
        return dq, dk, dv, None


def _group_backward(
    blocks: tuple[Tensor, Tensor, Tensor, Tensor], chunks: Iterable[Chunk], options: Options
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a group's scaled q, its k and its v, those of q already scaled back."""
    q_BQD, k_BKD, v_BKD, grad_BQD = blocks
    dq_BQD, dk_BKD, dv_BKD = (torch.empty_like(x) for x in (q_BQD, k_BKD, v_BKD))
    for part, weights, keep in chunks:
        seen = weights if keep is None else scaled(weights, keep, keep_scale(options.dropout))
        torch.bmm(seen.transpose(1, 2), grad_BQD[part], out=dv_BKD[part])
        dseen = torch.bmm(grad_BQD[part], v_BKD[part].transpose(1, 2))
        dweights = dseen if keep is None else scaled(dseen, keep, keep_scale(options.dropout))
        dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
        torch.bmm(dscores, k_BKD[part], out=dq_BQD[part])
        torch.bmm(dscores.transpose(1, 2), q_BQD[part], out=dk_BKD[part])
    return dq_BQD.mul_(options.scale), dk_BKD, dv_BKD


def _weights(q_BQD: Tensor, k_BKD: Tensor, mask: Tensor | None, options: Options, seed: int) -> Iterator[Chunk]:
    """The probabilities of scaled queries, chunk by chunk; a function of its arguments."""
    blocks, queries, keys = q_BQD.shape[0], q_BQD.shape[1], k_BKD.shape[1]
    heads = blocks if mask is None else blocks // mask.shape[0]
    step = max(1, CHUNK // (queries * keys))
    if mask is not None and mask.shape[0] > 1:
        step = max(heads, step // heads * heads)
    for start in range(0, blocks, step):
        part = slice(start, min(start + step, blocks))
        scores = torch.bmm(q_BQD[part], k_BKD[part].transpose(1, 2))
        if mask is not None:
            shown = mask if mask.shape[0] == 1 else mask[part.start // heads : part.stop // heads]
            documents = shown.shape[0]
            scores.view(documents, -1, queries, keys).add_(shown[:, None].to(scores.dtype))
        weights = torch.softmax(scores, -1)
        keep = None
        if options.dropout:
            keep = kept(seed * 1_000_003 + start, tuple(weights.shape), options.dropout)
        yield part, weights, keep


def _products(group: Group) -> AbstractContextManager[None]:
    return plain_matmul() if group.num_keys <= SHORT else nullcontext()


def _slots(x: Tensor, slots_P: Tensor | None) -> Tensor:
    x_THD = x[0].transpose(0, 1)
    return x_THD.contiguous() if slots_P is None else x_THD.index_select(0, slots_P)


def _unslot(x_PHD: Tensor, places: Tensor | None) -> Tensor:
    """From slots back to the row; rows that no group holds get zero."""
    if places is None:
        x_THD = x_PHD
    elif bool((places < 0).any()):
        x_THD = x_PHD.index_select(0, places.clamp(min=0)) * (places >= 0).to(x_PHD.dtype)[:, None, None]
    else:
        x_THD = x_PHD.index_select(0, places)
    return x_THD.transpose(0, 1)[None]


def _block(group: Group, x_PHD: Tensor, *, queries: bool) -> Tensor:
    start, size = (group.query_start, group.num_queries) if queries else (group.key_start, group.num_keys)
    rows = x_PHD[start : start + group.count * size]
    heads, width = rows.shape[1:]
    return rows.view(group.count, size, heads, width).transpose(1, 2).reshape(group.count * heads, size, width)


def _blocks(group: Group, q_PHD: Tensor, k_PHD: Tensor, v_PHD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    keys, values = (_block(group, x, queries=False) for x in (k_PHD, v_PHD))
    return _block(group, q_PHD, queries=True), keys, values


def _store(group: Group, x_BSD: Tensor, into_PHD: Tensor, *, queries: bool) -> None:
    start, size = (group.query_start, group.num_queries) if queries else (group.key_start, group.num_keys)
    heads, width = into_PHD.shape[1:]
    rows = into_PHD[start : start + group.count * size].view(group.count, size, heads, width)
    rows.copy_(x_BSD.view(group.count, heads, size, width).transpose(1, 2))
