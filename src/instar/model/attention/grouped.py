"""Attention in groups of near-equal length, with dropout: plain products over blocks that fit the cache.

Probabilities of documents up to KEPT tokens are kept for the backward pass; those of longer ones are computed again, so
that memory grows with the tokens and not with their square.
Shape letters: H heads, T tokens, R rows of all blocks, B blocks (documents x heads), Q queries, K keys, D width
of a head.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from instar.model.attention.pack import Group, Layout, Options, Pack
from instar.model.dropout import draw_seed, keep_scale, kept, scaled
from instar.model.speed import plain_matmul

CHUNK = 1 << 19
"""Scores in a chunk (2 MB in float32, which a core's cache holds)."""

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
        queries, keys = layout.rows(q.shape[1])
        q_RD, k_RD, v_RD = queries.gather(q[0]), keys.gather(k[0]), keys.gather(v[0])
        out_RD = torch.empty_like(q_RD)
        made: dict[int, list[Chunk]] = {}
        for number, group in enumerate(layout.groups):
            mask = pack.mask(number, group, causal=options.causal, window=options.window, read=options.read)
            q_BQD, out_BQD = queries.blocks(number, q_RD), queries.blocks(number, out_RD)
            k_BKD, v_BKD = keys.blocks(number, k_RD), keys.blocks(number, v_RD)
            with _products(group):
                for part, weights, keep in _weights(q_BQD, k_BKD, mask, options, seed + number):
                    seen = weights if keep is None else scaled(weights, keep, keep_scale(options.dropout))
                    torch.bmm(seen, v_BKD[part], out=out_BQD[part])
                    if group.num_keys <= KEPT:
                        made.setdefault(number, []).append((part, weights, keep))
        ctx.save_for_backward(q_RD, k_RD, v_RD)
        ctx.options, ctx.pack, ctx.seed, ctx.made = options, pack, seed, made
        return queries.scatter(out_RD)[None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_RD, k_RD, v_RD = ctx.saved_tensors
        options, pack, made = ctx.options, ctx.pack, ctx.made
        layout: Layout = pack.read_layout if options.read else pack.all_layout
        queries, keys = layout.rows(grads[0].shape[2])
        grad_RD = queries.gather_once(grads[0][0])
        dq_RD, dk_RD, dv_RD = (torch.empty_like(x) for x in (q_RD, k_RD, v_RD))
        for number, group in enumerate(layout.groups):
            mask = pack.mask(number, group, causal=options.causal, window=options.window, read=options.read)
            q_BQD, grad_BQD, dq_BQD = (queries.blocks(number, x) for x in (q_RD, grad_RD, dq_RD))
            k_BKD, v_BKD, dk_BKD, dv_BKD = (keys.blocks(number, x) for x in (k_RD, v_RD, dk_RD, dv_RD))
            with _products(group):
                chunks = made.get(number) or _weights(q_BQD, k_BKD, mask, options, ctx.seed + number)
                _group_backward((q_BQD, k_BKD, v_BKD, grad_BQD), chunks, options, into=(dq_BQD, dk_BKD, dv_BKD))
        moved = (queries.scatter(dq_RD), keys.scatter(dk_RD), keys.scatter(dv_RD))
        return (*(x.transpose(0, 1)[None] for x in moved), None)


def _group_backward(
    blocks: tuple[Tensor, Tensor, Tensor, Tensor],
    chunks: Iterable[Chunk],
    options: Options,
    *,
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Fill `into` with the gradients of a group's q, k and v."""
    q_BQD, k_BKD, v_BKD, grad_BQD = blocks
    dq_BQD, dk_BKD, dv_BKD = into
    for part, weights, keep in chunks:
        seen = weights if keep is None else scaled(weights, keep, keep_scale(options.dropout))
        torch.bmm(seen.transpose(1, 2), grad_BQD[part], out=dv_BKD[part])
        dseen = torch.bmm(grad_BQD[part], v_BKD[part].transpose(1, 2))
        dweights = dseen if keep is None else scaled(dseen, keep, keep_scale(options.dropout))
        dscores = torch._softmax_backward_data(dweights, weights, -1, weights.dtype)
        _scaled_product(dscores, k_BKD[part], options.scale, dq_BQD[part])
        _scaled_product(dscores.transpose(1, 2), q_BQD[part], options.scale, dk_BKD[part])


def _scaled_product(left: Tensor, right: Tensor, scale: float, into: Tensor) -> Tensor:
    """scale * left @ right, the scale inside the product."""
    return torch.baddbmm(into, left, right, beta=0, alpha=scale, out=into)


def _weights(q_BQD: Tensor, k_BKD: Tensor, mask: Tensor | None, options: Options, seed: int) -> Iterator[Chunk]:
    """The probabilities of the queries, chunk by chunk; a function of its arguments."""
    blocks, queries, keys = q_BQD.shape[0], q_BQD.shape[1], k_BKD.shape[1]
    heads = blocks if mask is None else blocks // mask.shape[0]
    step = max(1, CHUNK // (queries * keys))
    if mask is not None and mask.shape[0] > 1:
        step = max(heads, step // heads * heads)
    for start in range(0, blocks, step):
        part = slice(start, min(start + step, blocks))
        scores = q_BQD.new_empty(part.stop - start, queries, keys)
        _scaled_product(q_BQD[part], k_BKD[part].transpose(1, 2), options.scale, scores)
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
