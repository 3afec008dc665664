"""Every name of `optim`: it learns, and a file of its state goes on with equal bits."""

import copy
import logging
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar.api.optimizers import (
    RECIPES,
    build_optimizer,
    decay_parameter_names,
    is_optimizer_factory,
    make_scheduler,
    optimizer_class_and_kwargs,
    parameter_groups,
)
from instar.optim.in_backward import updates_in_backward
from instar.optim.modes import eval_mode, judged_weights, train_mode

# B batch, D features
NEEDS_HARDWARE = ("adamw_torch_xla", "adamw_torch_npu_fused", "adamw_anyprecision")
NEEDS_CUDA = ("galore_adamw_8bit", "galore_adamw_8bit_layerwise")
NOT_INSTALLED = ("adamw_torch_4bit", "adamw_torch_8bit")
ON_A_CPU = sorted(RECIPES.keys() - {*NEEDS_HARDWARE, *NEEDS_CUDA, *NOT_INSTALLED})
RATES = {"sgd": 0.1, "schedule_free_sgd": 1.0, "lomo": 0.1, "lion_8bit": 1e-3, "lion_32bit": 1e-3}

pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


@dataclass(kw_only=True)
class Arguments:
    optim: Any = "adamw_torch"
    optim_args: str | None = None
    optim_target_modules: Any = None
    learning_rate: float = 1e-2
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-7
    warmup_steps: float = 0
    gradient_accumulation_steps: int = 1
    world_size: int = 1
    fp16: bool = False


class Small(nn.Module):
    """Over 4,096 values in a matrix, so that 8-bit states are really of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 64)
        self.attn = nn.Linear(64, 66)
        self.norm = nn.LayerNorm(66)
        self.head = nn.Linear(66, 3)

    def forward(self, ids_B: Tensor) -> Tensor:
        return self.head(self.norm(torch.tanh(self.attn(self.embed(ids_B)))))


def arguments(name: str, **given: Any) -> Arguments:
    targets = {"optim_target_modules": ["attn"]} if RECIPES[name].reads_targets else {}
    options = "rank=4,update_proj_gap=3" if RECIPES[name].reads_targets else None
    rate = RATES.get(name, 1e-3 if "lion" in name or "rmsprop" in name else 1e-2)
    return Arguments(**{"optim": name, "learning_rate": rate, "optim_args": options} | targets | given)


def optimizer_of(model: nn.Module, args: Arguments) -> torch.optim.Optimizer:
    found, kwargs = optimizer_class_and_kwargs(args, model)
    return build_optimizer(model, found, kwargs, parameter_groups(model, args.weight_decay))


def loss_of(model: nn.Module, step: int) -> Tensor:
    ids_B = torch.arange(8) + step % 3
    return nn.functional.cross_entropy(model(ids_B), ids_B % 3)


def trained(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, steps: range) -> list[float]:
    train_mode(optimizer)
    losses = []
    for step in steps:
        loss = loss_of(model, step)
        losses.append(float(loss.detach()))
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    return losses


def schedule(optimizer: torch.optim.Optimizer) -> Any:
    return make_scheduler("linear", optimizer, 0, 40)


@pytest.mark.parametrize("name", ON_A_CPU)
def test_it_learns_and_goes_on_from_a_file_with_equal_bits(name: str, tmp_path: Path) -> None:
    model = Small()
    optimizer = optimizer_of(model, arguments(name))
    scheduler = schedule(optimizer)
    first = trained(model, optimizer, scheduler, range(8))
    assert first[-1] < 0.8 * first[0]

    eval_mode(optimizer)
    torch.save([model.state_dict(), optimizer.state_dict(), scheduler.state_dict()], tmp_path / "all.pt")
    on = trained(model, optimizer, scheduler, range(8, 12))

    weights, state, rates = torch.load(tmp_path / "all.pt", weights_only=True)
    again = Small()
    again.load_state_dict(weights)
    other = optimizer_of(again, arguments(name))
    following = schedule(other)
    other.load_state_dict(state)
    following.load_state_dict(rates)
    assert trained(again, other, following, range(8, 12)) == on
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))

    forgetful = Small()
    forgetful.load_state_dict(weights)
    fresh = optimizer_of(forgetful, arguments(name))
    if state["state"]:
        assert trained(forgetful, fresh, schedule(fresh), range(8, 12)) != on, "the state changes nothing"
