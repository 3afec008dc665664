from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from instar.core.budget import Budget
from instar.optim import AdamW
from instar.optim.schedule import Constant, Cosine, InverseSqrt, Linear, Schedule, WarmupStableDecay

STEPS = 100
TOTALS = {"steps": STEPS, "epochs": 2.0, "samples": 1000.0, "tokens": 20_000.0}


def curve(schedule: object) -> list[float]:
    return [schedule.factor(step / STEPS, (step + 1) / STEPS, TOTALS) for step in range(STEPS)]


@given(st.sampled_from(get_args(get_args(Schedule)[0])), st.floats(0, 0.9))
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


def test_every_schedule_is_chosen_by_its_kind() -> None:
    for kind in ("constant", "linear", "cosine", "inverse_sqrt", "warmup_stable_decay"):
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
