"""Learning rates as factors of the first one: pure functions of the steps done.

Keyword names are those that users write in `lr_scheduler_kwargs`. Every factor climbs from step 0, as Transformers'
schedules do: the first step of a warm-up has the rate 0 but for `cosine_warmup_with_min_lr`.
"""

import math
from typing import Literal

Shape = Literal["linear", "cosine", "1-sqrt"]


def _climb(step: int, num_warmup_steps: int) -> float:
    return step / max(1, num_warmup_steps)


def _share(step: int, num_warmup_steps: int, num_training_steps: int) -> float:
    """Share of the steps after the warm-up that are done."""
    return (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)


def _wave(num_cycles: float, share: float) -> float:
    """From 1 through `num_cycles` waves of a cosine between 1 and 0."""
    return 0.5 * (1.0 + math.cos(math.pi * num_cycles * 2.0 * share))


def _above(floor: float, factor: float) -> float:
    """`factor` between `floor` and 1, never below 0."""
    return max(0.0, factor * (1.0 - floor) + floor)


def constant(step: int) -> float:
    """1 always."""
    del step
    return 1.0


def constant_with_warmup(step: int, *, num_warmup_steps: int) -> float:
    """A climb, then 1."""
    return _climb(step, num_warmup_steps) if step < num_warmup_steps else 1.0


def linear(step: int, *, num_warmup_steps: int, num_training_steps: int) -> float:
    """A climb, then straight down to 0."""
    if step < num_warmup_steps:
        return _climb(step, num_warmup_steps)
    return max(0.0, (num_training_steps - step) / max(1, num_training_steps - num_warmup_steps))


def cosine(
    step: int, *, num_warmup_steps: int, num_training_steps: int, num_cycles: float, min_lr_rate: float = 0.0
) -> float:
    """A climb, then `num_cycles` waves of a cosine between 1 and `min_lr_rate`."""
    if step < num_warmup_steps:
        return _climb(step, num_warmup_steps)
    return _above(min_lr_rate, _wave(num_cycles, _share(step, num_warmup_steps, num_training_steps)))


def cosine_with_restarts(step: int, *, num_warmup_steps: int, num_training_steps: int, num_cycles: float) -> float:
    """A climb, then `num_cycles` halves of a cosine down to 0, each begun at 1."""
    if step < num_warmup_steps:
        return _climb(step, num_warmup_steps)
    share = _share(step, num_warmup_steps, num_training_steps)
    return 0.0 if share >= 1.0 else 0.5 * (1.0 + math.cos(math.pi * (num_cycles * share % 1.0)))


def cosine_warmup_with_min_lr(
    step: int,
    *,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float,
    min_lr_rate: float,
    warmup_lr_rate: float | None,
) -> float:
    """A climb whose first step moves already, then a cosine that is at `min_lr_rate` in the last step."""
    if step < num_warmup_steps:
        if warmup_lr_rate is None:
            return (step + 1.0) / max(1.0, num_warmup_steps)
        return warmup_lr_rate + (1.0 - warmup_lr_rate) * step / max(1, num_warmup_steps - 1)
    share = (step - num_warmup_steps + 1.0) / max(1.0, num_training_steps - num_warmup_steps)
    return _above(min_lr_rate, _wave(num_cycles, share))


def polynomial(
    step: int, *, num_warmup_steps: int, num_training_steps: int, lr_end: float, power: float, lr_init: float
) -> float:
    """A climb, then a power of the share that is left, from `lr_init` down to `lr_end`; both are rates, not factors."""
    if step < num_warmup_steps:
        return _climb(step, num_warmup_steps)
    if step > num_training_steps:
        return lr_end / lr_init
    left = 1 - _share(step, num_warmup_steps, num_training_steps)
    return float(((lr_init - lr_end) * left**power + lr_end) / lr_init)


def inverse_sqrt(step: int, *, num_warmup_steps: int, timescale: float) -> float:
    """A climb, then one over the root of the steps, counted in units of `timescale`."""
    if step < num_warmup_steps:
        return _climb(step, num_warmup_steps)
    return 1.0 / math.sqrt((step + (timescale - num_warmup_steps)) / timescale)


def warmup_stable_decay(
    step: int,
    *,
    num_warmup_steps: int,
    num_stable_steps: int,
    num_decay_steps: int,
    shapes: tuple[Shape, Shape],
    min_lr_ratio: float,
    num_cycles: float,
) -> float:
    """From `min_lr_ratio` up to 1, flat, and down to `min_lr_ratio`, where it stays; `shapes` of the two ways."""
    warmup_type, decay_type = shapes
    if step < num_warmup_steps:
        share = _climb(step, num_warmup_steps)
        up = {
            "linear": share,
            "cosine": 0.5 * (1.0 - math.cos(math.pi * share)),
            "1-sqrt": 1.0 - math.sqrt(1.0 - share),
        }
        return _above(min_lr_ratio, up[warmup_type])
    step -= num_warmup_steps + num_stable_steps
    if step < 0:
        return 1.0
    if step >= num_decay_steps:
        return min_lr_ratio
    share = step / max(1, num_decay_steps)
    down = {"linear": 1.0 - share, "cosine": _wave(num_cycles, share), "1-sqrt": 1.0 - math.sqrt(share)}
    return _above(min_lr_ratio, down[decay_type])
