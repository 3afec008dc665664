"""Every name of `lr_scheduler_type`.

Most schedules are factors of the steps done, and are stepped once after each optimizer step. Two answer to scores
(`needs_metric`): they are stepped after each evaluation, with the score that `metric_for_best_model` names, and never
after a step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from instar.api.optimizers import factors
from instar.config.faults import guess

_SHAPES = ("linear", "cosine", "1-sqrt")
_REQUIRED = object()


class ScheduleError(ValueError, TypeError):
    """A schedule was asked for with arguments it cannot use; the text lists all of them."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One name: its factor, and what `lr_scheduler_kwargs` may hold with their defaults."""

    factor: Callable[..., float] | None = None
    """None: made by `make` alone."""
    make: Callable[[torch.optim.Optimizer, dict[str, Any]], Any] | None = None
    takes: Mapping[str, Any] = field(default_factory=dict)
    """Names of the keywords, with the default of each."""
    warms: bool = True
    """Has a warm-up."""
    ends: bool = True
    """Reads the number of training steps."""
    finish: Callable[[dict[str, Any], float], list[str]] | None = None
    """Turns what was written into what the factor takes, given the first rate; returns faults."""


def _floor(kwargs: dict[str, Any], lr: float) -> list[str]:
    low, rate = kwargs.pop("min_lr"), kwargs["min_lr_rate"]
    if (low is None) == (rate is None):
        came = "neither" if low is None else "both"
        return [f"wanted one of min_lr (a rate) and min_lr_rate (a share of the first rate); got {came}"]
    if rate is None:
        kwargs["min_lr_rate"] = low / lr
    return []


def _polynomial(kwargs: dict[str, Any], lr: float) -> list[str]:
    kwargs["lr_init"] = lr
    low = kwargs["lr_end"]
    return [] if low < lr else [f"lr_end: wanted less than the first rate, {lr:g}; got {low:g}"]


def _inverse_sqrt(kwargs: dict[str, Any], lr: float) -> list[str]:
    del lr
    if kwargs["timescale"] is None:
        kwargs["timescale"] = kwargs["num_warmup_steps"] or 10_000
    return [] if kwargs["timescale"] > 0 else [f"timescale: wanted above 0; got {kwargs['timescale']}"]


def _warmup_stable_decay(kwargs: dict[str, Any], lr: float) -> list[str]:
    del lr
    total = kwargs.pop("num_training_steps")
    kwargs["shapes"] = kwargs.pop("warmup_type"), kwargs.pop("decay_type")
    if kwargs["num_stable_steps"] is None:
        if total is None:
            return ["wanted num_training_steps or num_stable_steps; got neither"]
        kwargs["num_stable_steps"] = total - kwargs["num_warmup_steps"] - kwargs["num_decay_steps"]
    return []


def _plateau(optimizer: torch.optim.Optimizer, kwargs: dict[str, Any]) -> Any:
    return ReduceLROnPlateau(optimizer, **kwargs)


def _greedy(optimizer: torch.optim.Optimizer, kwargs: dict[str, Any]) -> Any:
    from transformers.optimization import GreedyLR

    return GreedyLR(optimizer, **kwargs)


_FLOORED = {"num_cycles": 0.5, "min_lr": None, "min_lr_rate": None}
_SCORED = ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps")
_GREEDY = ("warmup", "max_lr", "verbose", "smooth", "window_size", "reset_start")

SCHEDULES = {
    "linear": Schedule(factor=factors.linear),
    "cosine": Schedule(factor=factors.cosine, takes={"num_cycles": 0.5}),
    "cosine_with_restarts": Schedule(factor=factors.cosine_with_restarts, takes={"num_cycles": 1}),
    "polynomial": Schedule(factor=factors.polynomial, takes={"lr_end": 1e-7, "power": 1.0}, finish=_polynomial),
    "constant": Schedule(factor=factors.constant, warms=False, ends=False),
    "constant_with_warmup": Schedule(factor=factors.constant_with_warmup, ends=False),
    "inverse_sqrt": Schedule(factor=factors.inverse_sqrt, takes={"timescale": None}, ends=False, finish=_inverse_sqrt),
    "reduce_lr_on_plateau": Schedule(make=_plateau, takes=dict.fromkeys(_SCORED), warms=False, ends=False),
    "cosine_with_min_lr": Schedule(factor=factors.cosine, takes=_FLOORED, finish=_floor),
    "cosine_warmup_with_min_lr": Schedule(
        factor=factors.cosine_warmup_with_min_lr, takes=_FLOORED | {"warmup_lr_rate": None}, finish=_floor
    ),
    "warmup_stable_decay": Schedule(
        factor=factors.warmup_stable_decay,
        takes={
            "num_decay_steps": _REQUIRED,
            "num_stable_steps": None,
            "warmup_type": "linear",
            "decay_type": "cosine",
            "min_lr_ratio": 0.0,
            "num_cycles": 0.5,
        },
        finish=_warmup_stable_decay,
    ),
    "greedy": Schedule(make=_greedy, takes=dict.fromkeys(_SCORED + _GREEDY), warms=False, ends=False),
}


def make_scheduler(
    name: Any,
    optimizer: torch.optim.Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> LRScheduler | Any:
    """The schedule `name` over `optimizer`, whose present rates are the peak; `step()` and `state_dict()` as torch's.

    ValueError for an unknown name, with the nearest; ScheduleError (a ValueError and a TypeError) for unknown
    keywords, missing ones and values that do not fit, all at once.
    """
    name = str(getattr(name, "value", name))
    if name not in SCHEDULES:
        wanted = ", ".join(sorted(SCHEDULES))
        raise ValueError(f"lr_scheduler_type: wanted one of {wanted}; got {name!r}{guess(name, SCHEDULES)}")
    schedule, given = SCHEDULES[name], dict(kwargs or {})
    faults = [
        f"wanted one of {', '.join(schedule.takes) or 'no keyword'}; got {key!r}{guess(key, schedule.takes)}"
        for key in given
        if key not in schedule.takes
    ]
    if schedule.make is not None:
        _refuse(name, faults)
        return schedule.make(optimizer, given)
    whole = {key: given.get(key, default) for key, default in schedule.takes.items()}
    faults += _faults_of(whole, schedule)
    faults += _count(whole, "num_warmup_steps", num_warmup_steps, needed=schedule.warms)
    needs_end = schedule.ends and whole.get("num_stable_steps") is None
    faults += _count(whole, "num_training_steps", num_training_steps, needed=needs_end, taken=schedule.ends)
    if not faults and schedule.finish is not None:
        faults += schedule.finish(whole, float(optimizer.defaults["lr"]))
    _refuse(name, faults)
    assert schedule.factor is not None
    return LambdaLR(optimizer, partial(schedule.factor, **whole))


def needs_metric(scheduler: Any) -> bool:
    """True for a schedule that is stepped with a score after each evaluation, not after each optimizer step."""
    kinds = {kind.__name__ for kind in type(scheduler).__mro__}
    return isinstance(scheduler, ReduceLROnPlateau) or "GreedyLR" in kinds


def _refuse(name: str, faults: list[str]) -> None:
    if faults:
        raise ScheduleError("\n".join(f"lr_scheduler_kwargs of {name}: {fault}" for fault in faults))


def _count(whole: dict[str, Any], key: str, value: int | None, *, needed: bool, taken: bool | None = None) -> list[str]:
    if needed if taken is None else taken:
        whole[key] = value
    return [f"{key}: wanted a number of steps; got nothing"] if needed and value is None else []


def _faults_of(whole: Mapping[str, Any], schedule: Schedule) -> list[str]:
    """Keywords that are missing, shapes that are unknown, and what should be a number and is not."""
    faults = []
    for key, value in whole.items():
        default = schedule.takes[key]
        if value is _REQUIRED:
            faults.append(f"{key}: is needed, a number of steps")
        elif isinstance(default, str):
            faults += [] if value in _SHAPES else [f"{key}: wanted one of {', '.join(_SHAPES)}; got {value!r}"]
        elif value is not default and not _is_number(value):
            faults.append(f"{key}: wanted a number; got {value!r}")
    return faults


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
