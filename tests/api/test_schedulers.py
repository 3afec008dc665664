"""Every name of `lr_scheduler_type` gives the rates of Transformers, step by step, and refuses what it cannot use."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType

from instar.api.optimizers import SCHEDULES, make_scheduler, needs_metric
from instar.api.optimizers.schedules import ScheduleError

PEAK = 0.02
SHARE = st.floats(0, 1)
CYCLES = st.sampled_from([0.5, 1, 1.5, 3])
SHAPES = st.sampled_from(["linear", "cosine", "1-sqrt"])
FLOOR = st.one_of(st.fixed_dictionaries({"min_lr": st.floats(0, PEAK)}), st.fixed_dictionaries({"min_lr_rate": SHARE}))


def floored(**more: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda a, b: a | b, FLOOR, st.fixed_dictionaries({}, optional={"num_cycles": CYCLES, **more}))


KEYWORDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "linear": st.just({}),
    "constant": st.just({}),
    "constant_with_warmup": st.just({}),
    "cosine": st.fixed_dictionaries({}, optional={"num_cycles": CYCLES}),
    "cosine_with_restarts": st.fixed_dictionaries({}, optional={"num_cycles": st.integers(1, 5)}),
    "polynomial": st.fixed_dictionaries({}, optional={"lr_end": st.floats(0, PEAK / 2), "power": st.floats(0.5, 5)}),
    "inverse_sqrt": st.fixed_dictionaries({}, optional={"timescale": st.integers(1, 50)}),
    "cosine_with_min_lr": floored(),
    "cosine_warmup_with_min_lr": floored(warmup_lr_rate=SHARE),
    "warmup_stable_decay": st.fixed_dictionaries(
        {"num_decay_steps": st.integers(0, 12)},
        optional={
            "num_stable_steps": st.integers(0, 12),
            "warmup_type": SHAPES,
            "decay_type": SHAPES,
            "min_lr_ratio": SHARE,
            "num_cycles": CYCLES,
        },
    ),
}
BY_SCORES = {"reduce_lr_on_plateau", "greedy"}


def optimizer() -> torch.optim.Optimizer:
    weights = [torch.zeros(1, requires_grad=True) for _ in "ab"]
    return torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": PEAK / 4}], lr=PEAK)


def rates(scheduler: Any, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_names_are_those_of_transformers() -> None:
    assert set(SCHEDULES) == {name.value for name in SchedulerType} == KEYWORDS.keys() | BY_SCORES


@pytest.mark.filterwarnings("ignore:Both num_training_steps and num_stable_steps")
@pytest.mark.parametrize("name", sorted(KEYWORDS))
@settings(max_examples=40)
@given(data=st.data(), warmup=st.integers(0, 12), after=st.integers(1, 20))
def test_rates_are_those_of_transformers_at_every_step(name: str, data: Any, warmup: int, after: int) -> None:
    kwargs, total = data.draw(KEYWORDS[name]), warmup + after
    ours = make_scheduler(name, optimizer(), warmup, total, kwargs)
    theirs = get_scheduler(name, optimizer(), warmup, total, scheduler_specific_kwargs=dict(kwargs))
    assert rates(ours, total + 3) == rates(theirs, total + 3)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize("name", sorted(KEYWORDS))
def test_a_schedule_goes_on_from_its_state(name: str) -> None:
    kwargs = {"num_decay_steps": 5} if name == "warmup_stable_decay" else {}
    kwargs |= {"min_lr": 1e-4} if name.endswith("min_lr") else {}
    whole = rates(make_scheduler(name, optimizer(), 3, 20, kwargs), 20)
    first = make_scheduler(name, optimizer(), 3, 20, kwargs)
    rates(first, 7)
    second = make_scheduler(name, optimizer(), 3, 20, kwargs)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert rates(second, 13) == whole[7:]
    other = get_scheduler(name, optimizer(), 3, 20, scheduler_specific_kwargs=kwargs)
    other.optimizer.load_state_dict(first.optimizer.state_dict())
    other.load_state_dict(first.state_dict())
    assert rates(other, 13) == whole[7:]


def test_a_warm_up_as_long_as_the_training_ends_without_a_fault() -> None:
    assert rates(make_scheduler("polynomial", optimizer(), 5, 5), 7)[5:] != []


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("reduce_lr_on_plateau", {"patience": 1, "factor": 0.5, "threshold": 0.1}),
        ("greedy", {"patience": 1, "factor": 0.5, "min_lr": 1e-4}),
    ],
)
def test_two_schedules_answer_to_scores(name: str, kwargs: dict[str, Any]) -> None:
    ours = make_scheduler(name, optimizer(), 3, 20, kwargs)
    theirs = get_scheduler(name, optimizer(), 3, 20, scheduler_specific_kwargs=kwargs)
    assert type(ours) is type(theirs)
    assert needs_metric(ours)
    seen = set()
    for score in (3.0, 2.0, 1.0, 0.5, 0.6, 0.6, 0.7, 0.6, 0.8):
        ours.step(score)
        theirs.step(score)
        assert [g["lr"] for g in ours.optimizer.param_groups] == [g["lr"] for g in theirs.optimizer.param_groups]
        seen.add(ours.optimizer.param_groups[0]["lr"])
    assert len(seen) > 1


def test_the_others_do_not() -> None:
    assert not needs_metric(make_scheduler("linear", optimizer(), 3, 20))
    assert not needs_metric(torch.optim.lr_scheduler.StepLR(optimizer(), 3))
    assert not needs_metric(None)


def test_an_enum_names_a_schedule() -> None:
    assert make_scheduler(SchedulerType.COSINE, optimizer(), 0, 3).get_last_lr() == [PEAK, PEAK / 4]


def test_parts_of_the_factor_are_named_as_in_transformers() -> None:
    ours = make_scheduler("polynomial", optimizer(), 2, 10, {"power": 5.0, "lr_end": 1e-5})
    theirs = get_scheduler("polynomial", optimizer(), 2, 10, scheduler_specific_kwargs={"power": 5.0, "lr_end": 1e-5})
    assert ours.lr_lambdas[0].args == theirs.lr_lambdas[0].args
    assert ours.lr_lambdas[0].keywords == theirs.lr_lambdas[0].keywords


@pytest.mark.parametrize(
    ("name", "kwargs", "said"),
    [
        ("cosin", {}, ["wanted one of constant,", "got 'cosin'; did you mean 'cosine'"]),
        ("linear", {"power": 2}, ["linear: wanted one of no keyword; got 'power'"]),
        (
            "warmup_stable_decay",
            {"min_lr": 0.1, "warmup_type": "x", "num_cycles": "b"},
            [
                "got 'min_lr'; did you mean 'min_lr_ratio'",
                "num_decay_steps: is needed",
                "warmup_type: wanted one of linear, cosine, 1-sqrt; got 'x'",
                "num_cycles: wanted a number; got 'b'",
            ],
        ),
        ("cosine_with_min_lr", {}, ["wanted one of min_lr", "got neither"]),
        ("cosine_warmup_with_min_lr", {"min_lr": 0.0, "min_lr_rate": 0.1}, ["got both"]),
        ("polynomial", {"lr_end": 0.5}, ["lr_end: wanted less than the first rate, 0.02; got 0.5"]),
        ("inverse_sqrt", {"timescale": 0}, ["timescale: wanted above 0"]),
        ("reduce_lr_on_plateau", {"patient": 3}, ["got 'patient'; did you mean 'patience'"]),
        ("greedy", {"window": 3}, ["got 'window'; did you mean 'window_size'"]),
    ],
)
def test_faults_are_told_together(name: str, kwargs: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ValueError, match="lr_scheduler") as raised:
        make_scheduler(name, optimizer(), 3, 20, kwargs)
    assert [text for text in said if text not in str(raised.value)] == []


def test_a_schedule_that_ends_needs_to_know_when() -> None:
    with pytest.raises(ScheduleError, match="num_training_steps: wanted a number of steps") as raised:
        make_scheduler("linear", optimizer())
    assert "num_warmup_steps" in str(raised.value)
    assert isinstance(raised.value, TypeError)
    make_scheduler("constant", optimizer())
    make_scheduler("warmup_stable_decay", optimizer(), 2, None, {"num_decay_steps": 2, "num_stable_steps": 2})
    with pytest.raises(ScheduleError, match="num_training_steps"):
        make_scheduler("warmup_stable_decay", optimizer(), 2, None, {"num_decay_steps": 2})
