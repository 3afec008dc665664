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
    entropy_M: Tensor | None = None
    """Entropy of the answers, float32, in nats, where it was asked for; carries no gradient."""


def chunk_size(vocab_size: int) -> int:
    """Places whose logits are made at once."""
    return max(32, MAX_LOGITS // vocab_size // 32 * 32)


def linear_cross_entropy(
    hidden_MH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, target_M: Tensor, *, with_entropy: bool = False
) -> Scores:
    """Scores of `hidden @ weight.T + bias` against the targets; gradients as from the whole logits.

    The entropy comes from the chances that the loss needs anyway: there is no second product.

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
    inputs = (hidden_MH, weight_VH, bias_V, target_M, with_entropy)
    nll_M, correct_M, entropy_M = _LinearCrossEntropy.apply(*inputs)  # type: ignore[no-untyped-call]
    return Scores(nll_M, correct_M, entropy_M if with_entropy else None)


class _LinearCrossEntropy(torch.autograd.Function):
    """Keeps the gradient of the logits where they fit one chunk; else makes the three gradients in the forward pass."""

    @staticmethod
    def forward(  # noqa: PLR0917 (autograd passes values by place)
        ctx: Any,
        hidden_MH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        target_M: Tensor,
        with_entropy: bool,  # noqa: FBT001
    ) -> tuple[Tensor, Tensor, Tensor]:
        nll_M = torch.empty(len(target_M), device=hidden_MH.device)
        correct_M = torch.empty(len(target_M), dtype=torch.bool, device=hidden_MH.device)
        entropy_M = torch.empty(len(target_M) if with_entropy else 0, device=hidden_MH.device)
        inputs, scores = (hidden_MH, weight_VH, bias_V, target_M), (nll_M, correct_M, entropy_M)
        wanted = any(ctx.needs_input_grad[:3])
        ctx.dlogits_MV = ctx.made = None
        with torch.autocast(hidden_MH.device.type, enabled=False):
            if wanted and 0 < len(target_M) <= chunk_size(len(weight_VH)):
                ctx.dlogits_MV = _slopes(_chances(*inputs, scores), target_M).to(hidden_MH.dtype)
            else:
                ctx.made = _sweep(ctx, inputs, scores, wanted, None)
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(correct_M, entropy_M)
        return nll_M, correct_M, entropy_M

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        grad_M = upstream[0]
        with torch.autocast(inputs[0].device.type, enabled=False):
            if ctx.dlogits_MV is not None:
                return (*_products(ctx, inputs, ctx.dlogits_MV, grad_M), None, None)
            made, ctx.made = ctx.made, None  # given away: whoever goes backward again makes them again
            if made is not None and (grad_M.numel() == 0 or grad_M.stride(0) == 0):  # one factor, as after nll.sum()
                factor = grad_M.reshape(-1)[0] if grad_M.numel() else grad_M.new_ones(())
                grads = [None if grad is None else grad.mul_(factor.to(grad.dtype)) for grad in made]
            else:
                grads = _sweep(ctx, inputs, None, True, grad_M)
        return (*grads, None, None)


def _chances(
    hidden_CH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor | None,
    target_C: Tensor,
    into: tuple[Tensor, Tensor, Tensor] | None,
) -> Tensor:
    """Softmax of a chunk's logits, float32 (C, V); fills `into` with nll, correctness and, if it has room, entropy."""
    logits_CV = F.linear(hidden_CH, weight_VH, bias_V).float()
    if into is None:
        return torch.softmax(logits_CV, 1, out=logits_CV)
    chosen_C1 = logits_CV.gather(1, target_C[:, None])
    top_C1 = logits_CV.amax(1, keepdim=True)
    # The fused softmax and maxima without places run several times faster than their parts.
    chances_CV = torch.softmax(logits_CV, 1, out=logits_CV)
    # The likeliest answer has the chance 1 / sum(exp(logit - top)), which gives the log of the sum exactly.
    torch.sub(top_C1 - chances_CV.amax(1, keepdim=True).log(), chosen_C1, out=into[0][:, None])
    torch.eq(chosen_C1, top_C1, out=into[1][:, None])
    if len(into[2]):
        torch.sum(torch.special.entr(chances_CV), 1, out=into[2])
    return chances_CV


def _slopes(chances_CV: Tensor, target_C: Tensor) -> Tensor:
    """Gradient of each place's loss by its logits, in the place of the chances."""
    return chances_CV.scatter_add_(1, target_C[:, None], chances_CV.new_full((len(target_C), 1), -1.0))


def _products(
    ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None, Tensor], dlogits_MV: Tensor, grad_M: Tensor
) -> list[Tensor | None]:
    """The three gradients from that of the logits. A place's weight goes to the narrow side of each product."""
    hidden_MH, weight_VH, bias_V, _ = inputs
    grad_M = grad_M.to(hidden_MH.dtype)
    needs = ctx.needs_input_grad
    return [
        (dlogits_MV @ weight_VH).mul_(grad_M[:, None]) if needs[0] else None,
        dlogits_MV.t() @ (hidden_MH * grad_M[:, None]) if needs[1] else None,
        (grad_M @ dlogits_MV) if needs[2] and bias_V is not None else None,
    ]


def _sweep(
    ctx: Any,
    inputs: tuple[Tensor, Tensor, Tensor | None, Tensor],
    into: tuple[Tensor, Tensor, Tensor] | None,
    wanted: bool,  # noqa: FBT001
    grad_M: Tensor | None,
) -> list[Tensor | None]:
    """Go through the chunks; fill `into` with scores, and return the three gradients if wanted."""
    hidden_MH, weight_VH, bias_V, target_M = inputs
    needs = [wanted and needed for needed in ctx.needs_input_grad[:3]]
    dhidden_MH = torch.empty_like(hidden_MH) if needs[0] else None
    dweight_VH: Tensor | None = None
    dbias_V = torch.zeros(len(weight_VH), dtype=torch.float32, device=weight_VH.device) if needs[2] else None
    for start in range(0, len(target_M), chunk_size(len(weight_VH))):
        part = slice(start, start + chunk_size(len(weight_VH)))
        hidden_CH, target_C = hidden_MH[part], target_M[part]
        scores = None if into is None else (into[0][part], into[1][part], into[2][part])
        chances_CV = _chances(hidden_CH, weight_VH, bias_V, target_C, scores)
        if not wanted:
            continue
        dlogits_CV = _slopes(chances_CV, target_C)
        if dbias_V is not None:
            dbias_V += dlogits_CV.sum(0) if grad_M is None else grad_M[part] @ dlogits_CV
        dlogits_CV = dlogits_CV.to(hidden_MH.dtype)
        if dhidden_MH is not None:
            torch.mm(dlogits_CV, weight_VH, out=dhidden_MH[part])
        if needs[1]:
            weighed_CH = hidden_CH if grad_M is None else hidden_CH * grad_M[part, None].to(hidden_CH.dtype)
            dweight_VH = _accumulated(dweight_VH, dlogits_CV, weighed_CH)
    if dhidden_MH is not None and grad_M is not None:
        dhidden_MH.mul_(grad_M[:, None])
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
