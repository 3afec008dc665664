"""Dropout for the CPU: the same distribution as torch's, several times cheaper.

Bits come from NumPy's SFC64, whose seed is drawn from torch's generator: `torch.manual_seed` makes it repeatable, and
whatever replays torch's generator (activation checkpointing) replays the bits. A unit is dropped if its 16 bits lie
under a threshold, so the rate is exact to 1/65536 and the scale is that of the rate really used.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from instar.model.specialize import Specialized

_STEPS = 1 << 16


def threshold(rate: float) -> int:
    """How many of 65536 equally likely values drop a unit."""
    return min(max(round(rate * _STEPS), 1), _STEPS - 1)


def keep_scale(rate: float) -> float:
    """What a kept unit is multiplied by, so that the mean stays."""
    return _STEPS / (_STEPS - threshold(rate))


def draw_seed() -> int:
    """A seed from torch's default generator."""
    return int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64))


def kept(seed: int, shape: tuple[int, ...], rate: float) -> Tensor:
    """Which units stay: 1 or 0 as bytes, on the CPU; a function of its arguments."""
    count = int(np.prod(shape))
    words = np.random.SFC64(seed).random_raw((count + 3) // 4)
    halves = torch.from_numpy(words.view(np.int16)[:count])
    # Compared in place and narrowed after: a comparison that makes booleans is several times slower.
    return halves.ge_(threshold(rate) - _STEPS // 2).to(torch.uint8).view(shape)


def scaled(values: Tensor, kept_mask: Tensor, scale: float) -> Tensor:
    """values * mask * scale."""
    factors = kept_mask.to(values.dtype)
    return torch.addcmul(values.new_zeros(()), values, factors, value=scale, out=factors)  # one pass for both


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        mask = kept(draw_seed(), tuple(values.shape), rate)
        ctx.save_for_backward(mask)
        ctx.scale = keep_scale(rate)
        return scaled(values, mask, ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return scaled(grads[0], mask, ctx.scale), None


class Dropout(Specialized, nn.Dropout):
    """In place of `nn.Dropout`; on other devices it is `nn.Dropout`."""

    plain = nn.Dropout

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return input
        if input.device.type != "cpu" or self.p == 1.0 or self.inplace:
            return super().forward(input)
        dropped: Tensor = _Drop.apply(input, self.p)  # type: ignore[no-untyped-call]
        return dropped


def swap_dropout(model: nn.Module) -> None:
    """Give every plain `nn.Dropout` inside the code of `Dropout`; the objects stay."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = Dropout
