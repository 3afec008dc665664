"""One optimizer step."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from instar.data import Batch
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """What bounds a step's memory and its stride."""

    micro_tokens: int | None = None
    """Tokens that go through the network at once; None: the whole step. Cannot change the curve."""
    max_norm: float = 1.0
    """The gradient is scaled down to this norm; infinity: never."""


def optimizer_step(state: TrainState, batch: Batch, runtime: Runtime, limits: StepLimits) -> StepResult:
    """Forward, backward and update for a whole step, in pieces that fit in memory.

    Losses are summed and divided once by the targets of the whole step over all ranks, so
    neither pieces nor ranks can change the gradient. A gradient that is not finite leaves
    weights and optimizer as they were; nothing here waits for the device.
    """
    total, correct = (torch.zeros((), device=runtime.device) for _ in range(2))
    pieces = list(runtime.share(batch).split(limits.micro_tokens))
    for number, piece in enumerate(pieces, start=1):
        with runtime.synchronized(state.module, number == len(pieces)):
            with runtime.autocast():
                outcome = state.module(piece.to(runtime.device))
            # Ranks average their gradients; times their number that is the sum.
            share = outcome.total * (runtime.world_size / batch.num_targets)
            state.scaler.scale(share).backward()
        total += outcome.total.detach()
        correct += outcome.correct

    lr = state.set_rate(batch)
    state.scaler.unscale_(state.optimizer)
    grad_norm = nn.utils.clip_grad_norm_(state.network.parameters(), limits.max_norm, foreach=True)
    is_finite = _update(state, grad_norm)
    if state.average is not None:
        state.average.update()
    return StepResult(
        total=total,
        correct=correct,
        grad_norm=grad_norm,
        is_finite=is_finite,
        num_targets=batch.num_targets,
        num_tokens=batch.num_tokens,
        samples_D=batch.samples_D,
        lr=lr,
    )


def _update(state: TrainState, grad_norm: Tensor) -> Tensor:
    """Step the optimizer unless the gradient is not finite; the fused kernel decides on the device."""
    is_finite = torch.isfinite(grad_norm)
    if state.scaler.is_enabled():
        state.scaler.step(state.optimizer)
        state.scaler.update()
    else:
        state.optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return is_finite
