"""Exact attention inside each document, without padding: one flash call a document (CPU, no dropout).

Shape letters: H heads, T tokens, D width of a head.
"""

from typing import Any

import torch
from torch import Tensor

from instar.model.attention.pack import Options, Pack
from instar.model.speed import plain_matmul


class FlashDocuments(torch.autograd.Function):
    """Attention of q, k, v (1, H, T, D) inside documents; returns (1, H, T, D)."""

    @staticmethod
    def forward(ctx: Any, q_HTD: Tensor, k_HTD: Tensor, v_HTD: Tensor, job: tuple[Pack, Options]) -> Tensor:
        pack, options = job
        keys = list(pack.lengths)
        queries = list(pack.read_counts) if options.read else keys
        _, heads, num_queries, width = q_HTD.shape
        out_HTD = q_HTD.new_empty(1, num_queries, heads, width).transpose(1, 2)
        pieces = zip(
            q_HTD.split(queries, 2), k_HTD.split(keys, 2), v_HTD.split(keys, 2), out_HTD.split(queries, 2), strict=True
        )
        norms: list[Tensor] = []
        with plain_matmul():
            for q, k, v, out in pieces:
                if q.shape[2]:
                    result, norm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                        q, k, v, 0.0, options.causal, attn_mask=None, scale=options.scale
                    )
                    out.copy_(result)
                    norms.append(norm)
        ctx.save_for_backward(q_HTD, k_HTD, v_HTD, out_HTD, *norms)
        ctx.job = (queries, keys, options)
        return out_HTD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_HTD, k_HTD, v_HTD, out_HTD, *norms = ctx.saved_tensors
        queries, keys, options = ctx.job
        moved = [torch.zeros_like(x.transpose(1, 2)).transpose(1, 2) for x in (q_HTD, k_HTD, v_HTD)]
        sources = [
            x.split(n, 2)
            for x, n in zip(
                (grads[0], q_HTD, k_HTD, v_HTD, out_HTD), (queries, queries, keys, keys, queries), strict=True
            )
        ]
        targets = [x.split(n, 2) for x, n in zip(moved, (queries, keys, keys), strict=True)]
        number = 0
        with plain_matmul():
            for grad, q, k, v, out, *into in zip(*sources, *targets, strict=True):
                if not q.shape[2]:
                    continue
                results = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    grad, q, k, v, out, norms[number], 0.0, options.causal, attn_mask=None, scale=options.scale
                )
                number += 1
                for target, result in zip(into, results, strict=True):
                    target.copy_(result)
        return (*moved, None)
