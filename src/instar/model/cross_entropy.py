"""Output projection and cross entropy in one, by chunks: [places, vocabulary] never exists whole.

Shape letters: M places, C places of a chunk, V vocabulary, H width.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_LOGITS = 1 << 25
"""Logits that may exist at once (128 MB in float32)."""


@dataclass(frozen=True)
class Scores:
    """What a prediction is worth at each place."""

    nll_M: Tensor
    """Negative log likelihood, float32, in nats; gradients flow through it."""
    correct_M: Tensor
    """True where no answer is more likely than the target; carries no gradient."""


def chunk_size(vocab_size: int) -> int:
    """Places whose logits are made at once."""
    return max(32, MAX_LOGITS // vocab_size // 32 * 32)


def linear_cross_entropy(hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_M: Tensor) -> Scores:
    """Scores of `hidden @ weight.T + bias` against the targets; gradients as from the whole logits.

    Products run in autocast's type where that is on; softmax and sums in float32.
    """
    kind = hidden_MH.device.type
    if torch.is_autocast_enabled(kind):
        low = torch.get_autocast_dtype(kind)
        hidden_MH, weight_VH = hidden_MH.to(low), weight_VH.to(low)
        bias_V = None if bias_V is None else bias_V.to(low)
    if not torch.is_grad_enabled():  # autograd functions are told of gradients that nobody will ask for
        hidden_MH, weight_VH = hidden_MH.detach(), weight_VH.detach()
        bias_V = None if bias_V is None else bias_V.detach()
    nll_M, correct_M = _LinearCrossEntropy.apply(hidden_MH, weight_VH, bias_V, target_M)
    return Scores(nll_M, correct_M)


class _LinearCrossEntropy(torch.autograd.Function):
    """Makes the gradient of the sum in the forward pass; other weightings of the places cost a second pass."""

    @staticmethod
    def forward(
        ctx: Any, hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_M: Tensor
    ) -> tuple[Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[:3])
        nll_M = torch.empty(len(target_M), device=hidden_MH.device)
        correct_M = torch.empty(len(target_M), dtype=torch.bool, device=hidden_MH.device)
        with torch.autocast(hidden_MH.device.type, enabled=False):
            grads = _sweep(ctx, (hidden_MH, weight_VH, bias_V, target_M), (nll_M, correct_M), wanted, None)
        ctx.save_for_backward(hidden_MH, weight_VH, bias_V, target_M)
        ctx.made = grads
        ctx.mark_non_differentiable(correct_M)
        return nll_M, correct_M

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        hidden_MH, weight_VH, bias_V, target_M = ctx.saved_tensors
        grad_M = upstream[0]
        made, ctx.made = ctx.made, None  # given away: whoever goes backward again makes them again
        if made is not None and (grad_M.numel() == 0 or grad_M.stride(0) == 0):  # one factor, as after nll.sum()
            factor = grad_M.reshape(-1)[0] if grad_M.numel() else grad_M.new_ones(())
            grads = [None if grad is None else grad.mul_(factor.to(grad.dtype)) for grad in made]
        else:
            with torch.autocast(hidden_MH.device.type, enabled=False):
                grads = _sweep(ctx, (hidden_MH, weight_VH, bias_V, target_M), None, True, grad_M)
        return (*grads, None)


def _sweep(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor | None, Tensor],
    into: tuple[Tensor, Tensor] | None,
    wanted: bool,  # noqa: FBT001
    grad_M: Tensor | None,
) -> list[Tensor | None]:
    """Go through the chunks; fill `into` with nll and correctness, and return the three gradients if wanted."""
    hidden_MH, weight_VH, bias_V, target_M = inputs
    needs = [wanted and needed for needed in ctx.needs_input_grad[:3]]
    dhidden_MH = torch.empty_like(hidden_MH) if needs[0] else None
    dweight_VH: Tensor | None = None
    dbias_V = torch.zeros(len(weight_VH), dtype=torch.float32, device=weight_VH.device) if needs[2] else None
    for start in range(0, len(target_M), chunk_size(len(weight_VH))):
        part = slice(start, start + chunk_size(len(weight_VH)))
        hidden_CH, target_C1 = hidden_MH[part], target_M[part, None]
        logits_CV = F.linear(hidden_CH, weight_VH, bias_V).float()
        chosen_C1 = logits_CV.gather(1, target_C1)
        top_C1 = logits_CV.amax(1, keepdim=True)
        # The fused softmax and maxima without places run several times faster than their parts.
        chances_CV = torch.softmax(logits_CV, 1, out=logits_CV)
        if into is not None:
            # The likeliest answer has the chance 1 / sum(exp(logit - top)), which gives the log of the sum exactly.
            torch.sub(top_C1 - chances_CV.amax(1, keepdim=True).log(), chosen_C1, out=into[0][part, None])
            torch.eq(chosen_C1, top_C1, out=into[1][part, None])
        if not wanted:
            continue
        if grad_M is None:
            dlogits_CV = chances_CV.scatter_add_(1, target_C1, torch.full_like(chosen_C1, -1.0))
        else:
            grad_C1 = grad_M[part, None]
            dlogits_CV = chances_CV.mul_(grad_C1).scatter_add_(1, target_C1, -grad_C1)
        if dbias_V is not None:
            dbias_V += dlogits_CV.sum(0)
        dlogits_CV = dlogits_CV.to(hidden_MH.dtype)
        if dhidden_MH is not None:
            torch.mm(dlogits_CV, weight_VH, out=dhidden_MH[part])
        if needs[1]:
            dweight_VH = _accumulated(dweight_VH, dlogits_CV, hidden_CH)
    if needs[1] and dweight_VH is None:
        dweight_VH = torch.zeros_like(weight_VH)
    return [
        dhidden_MH,
        None if dweight_VH is None else dweight_VH.to(weight_VH.dtype),
        None if dbias_V is None or bias_V is None else dbias_V.to(bias_V.dtype),
    ]


def _accumulated(dweight_VH: Tensor | None, dlogits_CV: Tensor, hidden_CH: Tensor) -> Tensor:
    """The weight's gradient so far, float32, with another chunk's part."""
    if dweight_VH is None:
        return (dlogits_CV.t() @ hidden_CH).float()
    if dlogits_CV.dtype == dweight_VH.dtype:
        return dweight_VH.addmm_(dlogits_CV.t(), hidden_CH)
    return dweight_VH.add_(dlogits_CV.t() @ hidden_CH)
