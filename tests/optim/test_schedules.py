from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from instar.core.budget import Budget
from instar.optim import AdamW
from instar.optim.schedule import (
    Before,
    Constant,
    Continued,
    Cosine,
    Infinite,
    InverseSqrt,
    Linear,
    Rewarm,
    Schedule,
    WarmupStableDecay,
    read_schedule,
)
from instar.optim.schedule.base import Warmed

STEPS = 100
TOTALS = {"steps": STEPS, "epochs": 2.0, "samples": 1000.0, "tokens": 20_000.0}


def curve(schedule: object) -> list[float]:
    return [schedule.factor(step / STEPS, (step + 1) / STEPS, TOTALS) for step in range(STEPS)]


WARMED = [kind for kind in get_args(get_args(Schedule)[0]) if issubclass(kind, Warmed)]


@settings(deadline=None)
@given(st.sampled_from(WARMED), st.floats(0, 0.9))
def test_factors_stay_within_bounds_and_the_first_step_moves(kind: type, warmup: float) -> None:
    factors = curve(kind(warmup=warmup))
    assert all(0 <= factor <= 1 + 1e-12 for factor in factors)
    assert factors[0] > 0
    assert factors[int(warmup * STEPS) + 1] > 0.5 or kind is not Constant


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Linear, get_linear_schedule_with_warmup), (Cosine, get_cosine_schedule_with_warmup)]
)
def test_decay_is_that_of_transformers_after_warmup(ours: type, theirs: object) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = theirs(optimizer, num_warmup_steps=10, num_training_steps=STEPS)
    factors = curve(ours(warmup=Budget(10, "steps")))
    for step in range(STEPS):
        if step >= 10:
            assert factors[step] == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()


def test_warmup_climbs_to_one_in_any_unit() -> None:
    for warmup in (0.2, Budget(20, "steps"), Budget(200, "samples"), Budget(4000, "tokens"), Budget(0.4, "epochs")):
        factors = curve(Constant(warmup=warmup))
        assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
        assert factors[20:] == [1.0] * 80


def test_warmup_stable_decay_is_flat_and_then_falls_as_one_less_root() -> None:
    factors = curve(WarmupStableDecay(warmup=0.1, decay=0.2))
    assert factors[10:81] == pytest.approx([1.0] * 71)
    assert factors[90] == pytest.approx(1 - 0.5**0.5)


def test_inverse_root_halves_at_four_times_the_scale() -> None:
    factors = curve(InverseSqrt(warmup=0.1))
    assert factors[10] == pytest.approx(1.0)
    assert factors[40] == pytest.approx(0.5)


def test_floors_are_reached() -> None:
    for kind in (Linear, Cosine, WarmupStableDecay):
        last = kind(warmup=0.0, floor=0.1).factor(1.0, 1.0, TOTALS)
        assert last == pytest.approx(0.1)


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("root", 1 - 0.5**0.5)])
def test_the_fall_has_the_shape_asked_for(shape: str, half: float) -> None:
    schedule = WarmupStableDecay(warmup=0.0, decay=Budget(20, "steps"), decay_shape=shape, floor=0.2)
    factors = curve(schedule)
    assert factors[80] == 1.0
    assert factors[90] == pytest.approx(0.2 + 0.8 * half)
    assert schedule.factor(1.0, 1.0, TOTALS) == pytest.approx(0.2)
    assert schedule.decay_begins(TOTALS) == pytest.approx(0.8)
    assert Cosine().decay_begins(TOTALS) is None


def test_an_infinite_schedule_cools_down_stays_and_anneals() -> None:
    schedule = Infinite(warmup=0.1, cooldown=0.2, constant=0.4, anneal=0.1, floor=0.05)
    factors = curve(schedule)
    assert factors[10] == pytest.approx(1.0)
    assert factors[20] == pytest.approx(0.7)  # half way down a cosine
    assert factors[30:91] == pytest.approx([0.4] * 61)
    assert factors[95] == pytest.approx(0.4 * (0.05 / 0.4) ** 0.5)
    assert schedule.factor(1.0, 1.0, TOTALS) == pytest.approx(0.05)
    assert schedule.decay_begins(TOTALS) == pytest.approx(0.9)
    with pytest.raises(ValueError, match="at most the constant"):
        Infinite(constant=0.1, floor=0.2)
    assert curve(Infinite(warmup=0.1, cooldown=0.2, constant=0.4, anneal=0.0))[30:] == pytest.approx([0.4] * 70)


@settings(deadline=None)
@given(
    st.floats(0, 3),
    st.integers(1, 60),
    st.sampled_from(WARMED),
    st.floats(0, 0.5),
    st.sampled_from(("steps", "epochs")),
)
def test_rewarming_is_continuous_at_both_ends_up_and_down(
    start: float, over: int, kind: type[Warmed], warmup: float, unit: str
) -> None:
    span = Budget(over, "steps") if unit == "steps" else Budget(over * TOTALS["epochs"] / STEPS, "epochs")
    factors = curve(Rewarm(over=span, then=kind(warmup=warmup), start=start))
    left = {name: amount * (STEPS - over) / STEPS for name, amount in TOTALS.items()}
    alone = kind(warmup=warmup).without_warmup()
    after = [alone.factor(step / (STEPS - over), step / (STEPS - over), left) for step in range(STEPS - over)]
    assert factors[0] == start
    assert factors[over:] == pytest.approx(after)
    line = [start + (after[0] - start) * step / over for step in range(over)]
    assert factors[:over] == pytest.approx(line)


def test_rewarming_with_its_own_peak_begins_at_the_peak_of_what_follows() -> None:
    factors = curve(Rewarm(over="20 steps", then=WarmupStableDecay(decay=0.25), start=2.0))
    assert factors[:21] == pytest.approx([2 - step / 20 for step in range(21)])
    assert factors[20:81] == pytest.approx([1.0] * 61)
    assert Rewarm(over="20 steps", then=WarmupStableDecay(decay=0.25)).decay_begins(TOTALS) == pytest.approx(0.8)
    with pytest.raises(ValueError, match="needs the rate first"):
        curve(Rewarm())


@settings(deadline=None)
@given(st.sampled_from(WARMED), st.integers(1, 99), st.integers(1, 120))
def test_a_continued_schedule_has_the_very_rates_of_an_unbroken_one(kind: type[Warmed], spent: int, more: int) -> None:
    """Bit for bit, whatever the length of the second run."""
    first = kind(warmup=0.1)
    before = Before(schedule=first.model_dump(mode="json"), budget="100 steps", spent=spent, totals=TOTALS)
    second = Continued(before=before)
    totals = {name: amount * more / STEPS for name, amount in TOTALS.items()} | {"steps": float(more)}
    for step in range(min(more, STEPS - spent)):
        rate = second.factor(step / more, (step + 1) / more, totals)
        assert rate == first.factor((spent + step) / STEPS, (spent + step + 1) / STEPS, TOTALS)
    assert read_schedule(second.model_dump(mode="json")) == second


def test_a_continued_schedule_knows_where_the_fall_begins() -> None:
    before = Before(
        schedule=WarmupStableDecay(decay=0.2).model_dump(mode="json"), budget="100 steps", spent=50, totals=TOTALS
    )
    assert Continued(before=before).decay_begins({**TOTALS, "steps": 60.0}) == pytest.approx(0.5)
    assert Continued(before=before.model_copy(update={"spent": 90.0})).decay_begins(TOTALS) is None


def test_every_schedule_is_chosen_by_its_kind() -> None:
    kinds = ("constant", "linear", "cosine", "inverse_sqrt", "warmup_stable_decay", "infinite", "rewarm", "continued")
    for kind in kinds:
        assert TypeAdapter(Schedule).validate_python({"kind": kind}).kind == kind


def test_matrices_decay_and_vectors_do_not() -> None:
    module = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build(module.named_parameters())
    decays = {name: group["weight_decay"] for group in optimizer.param_groups for name in group["names"]}
    assert decays == {"0.weight": 0.5, "2.weight": 0.5, "1.weight": 0.0, "1.bias": 0.0, "2.bias": 0.0}


def test_a_step_that_is_not_finite_leaves_weights_and_moments() -> None:
    parameter = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = AdamW(lr=0.1).build([("weight", parameter)])
    for value, is_bad in ((1.0, 0.0), (float("nan"), 1.0), (1.0, 0.0)):
        parameter.grad = torch.full((3, 3), value)
        optimizer.found_inf = torch.tensor(is_bad)
        before = parameter.detach().clone()
        optimizer.step()
        assert torch.equal(before, parameter) == bool(is_bad)
    state = optimizer.state[parameter]
    assert float(state["step"]) == 2
    assert torch.isfinite(parameter).all()
    assert torch.isfinite(state["exp_avg"]).all()
