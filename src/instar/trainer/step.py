"""One optimizer step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from instar.trainer.callback import Callback
from instar.trainer.runtime import Runtime
from instar.trainer.state import LoopState, StepUpdate
from instar.trainer.work import BatchT, ResultT, StateT, Work


@dataclass(frozen=True, kw_only=True)
class StepLimits:
    """What bounds a step's stride."""

    max_norm: float = 1.0
    """The gradient is scaled down to this norm; infinity: never."""
    clip: Callable[[], Tensor] | None = None
    """Bounds the gradient in place of the runtime, and gives its norm before."""
    skips_non_finite: bool = True
    """A gradient that is not finite leaves weights and optimizer as they were; False: the step is made all the same."""


def optimizer_step(
    state: StateT,
    batch: BatchT,
    work: Work[StateT, BatchT, ResultT],
    runtime: Runtime,
    limits: StepLimits,
    *,
    callback: Callback[StateT, ResultT],
) -> ResultT:
    """Forward, backward and update for a whole step, in pieces that fit in memory.

    Pieces too large for memory are cut smaller where the work can, and the step is made from its beginning.
    Nothing here waits for the device, but for optimizers that cannot skip a step on it by themselves.
    """
    sums = None
    while sums is None:
        try:
            sums = _learn(state, batch, work, runtime, callback)
        except RuntimeError as error:
            if not work.cut_smaller(error):
                raise
            state.optimizer.zero_grad(set_to_none=True)

    lr = work.set_rate(state, batch)
    state.scaler.unscale_(state.optimizer)
    grad_norm = limits.clip() if limits.clip else runtime.clip(state.parameters, limits.max_norm)
    callback.update_started(state)
    is_finite = _update(state, grad_norm, limits)
    callback.update_ended(state)
    if state.average is not None:
        state.average.update()
    result = work.finish(state, batch, sums, StepUpdate(grad_norm=grad_norm, is_finite=is_finite, lr=lr))
    state.optimizer.zero_grad(set_to_none=True)  # after the schedule, which may look at gradients
    return result


def _learn(
    state: StateT,
    batch: BatchT,
    work: Work[StateT, BatchT, ResultT],
    runtime: Runtime,
    callback: Callback[StateT, ResultT],
) -> tuple[Tensor, ...]:
    """The whole step's gradient; returns the sums of its pieces. Ranks exchange it once, with the last piece."""
    sums: tuple[Tensor, ...] = ()
    pieces = work.pieces(batch)
    for number, piece in enumerate(pieces, start=1):
        is_last = number == len(pieces)
        with runtime.synchronized(state.module, is_last):
            learned = work.learn(state, batch, piece)
        sums = learned if number == 1 else tuple(map(torch.add, sums, learned))
        if not is_last:
            callback.piece_ended(state)
    return sums


def _update(state: LoopState, grad_norm: Tensor, limits: StepLimits) -> Tensor:
    """Step the optimizer unless the gradient is not finite; a fused kernel decides on the device."""
    is_finite = torch.isfinite(grad_norm)
    if state.scaler.is_enabled():
        state.scaler.step(state.optimizer)
        state.scaler.update()
    elif not limits.skips_non_finite:
        state.optimizer.step()
    elif getattr(state.optimizer, "_step_supports_amp_scaling", False):
        state.optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
        state.optimizer.step()
    elif bool(is_finite):
        state.optimizer.step()
    return is_finite
