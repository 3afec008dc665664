"""Every name of `optim`: it learns, and a file of its state goes on with equal bits."""

import copy
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from instar.api.optimizers import (
    RECIPES,
    build_optimizer,
    make_scheduler,
    optimizer_class_and_kwargs,
    parameter_groups,
)
from instar.optim.in_backward import updates_in_backward
from instar.optim.modes import eval_mode, evaluated_weights, train_mode
from tests.api.optimizer_parts import (
    ON_A_CPU,
    Arguments,
    Small,
    arguments,
)

pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


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


@pytest.mark.parametrize("name", [name for name in ON_A_CPU if name.endswith("_layerwise")])
def test_a_layer_at_a_time_makes_the_same_weights(name: str) -> None:
    weights = []
    for kind in (name, name.removesuffix("_layerwise")):
        model = Small()
        optimizer = optimizer_of(model, arguments(kind))
        assert updates_in_backward(optimizer) is (kind == name)
        trained(model, optimizer, schedule(optimizer), range(7))
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*weights, strict=True))


def test_lomo_is_gradient_descent_and_keeps_no_gradients() -> None:
    weights = []
    for kind in ("lomo", "sgd"):
        model = Small()
        optimizer = optimizer_of(model, arguments(kind, weight_decay=0.0))
        loss_of(model, 0).backward()
        assert all((parameter.grad is None) is (kind == "lomo") for parameter in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        trained(model, optimizer, schedule(optimizer), range(4))
        weights.append([parameter.detach() for parameter in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*weights, strict=True))


@pytest.mark.parametrize("name", [name for name in ON_A_CPU if "lomo" in name or "layerwise" in name])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_bad_backward_pass_moves_nothing(name: str, factor: float) -> None:
    model = Small()
    optimizer = optimizer_of(model, arguments(name))
    trained(model, optimizer, schedule(optimizer), range(2))
    before = copy.deepcopy([model.state_dict(), optimizer.state_dict()["state"]])
    (loss_of(model, 0) * factor).backward()
    assert all(torch.equal(a, b) for a, b in zip(before[0].values(), model.parameters(), strict=True))
    after = optimizer.state_dict()["state"]
    for key, state in before[1].items():
        assert [k for k, v in state.items() if isinstance(v, Tensor) and not torch.equal(v, after[key][k])] == []
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["lomo", "galore_adamw_layerwise"])
def test_a_later_optimizer_ends_an_earlier_one(name: str) -> None:
    model = Small()
    optimizer_of(model, arguments(name))
    kept = optimizer_of(model, arguments("sgd"))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss_of(model, 0).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    kept.step()
    assert not torch.equal(before[0], model.embed.weight)


@pytest.mark.parametrize("name", ["lomo", "adalomo", "galore_adamw_layerwise"])
@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"gradient_accumulation_steps": 2}, ValueError, "gradient_accumulation_steps=1; got 2"),
        ({"world_size": 2}, NotImplementedError, "use one process"),
        ({"fsdp": True}, NotImplementedError, "without FSDP"),
        ({"fp16": True}, ValueError, "bf16 can"),
    ],
)
def test_an_update_in_the_backward_pass_has_limits(name: str, given: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        optimizer_class_and_kwargs(arguments(name, **given), Small())


@pytest.mark.parametrize("name", ["schedule_free_adamw", "schedule_free_sgd", "schedule_free_radam"])
def test_judging_changes_no_bit_of_the_weights_to_train_with(name: str) -> None:
    model = Small()
    optimizer = optimizer_of(model, arguments(name, warmup_steps=2))
    trained(model, optimizer, schedule(optimizer), range(12))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with evaluated_weights(optimizer):
        assert not torch.equal(before[0], model.embed.weight)
        judged = model.embed.weight.detach().clone()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    eval_mode(optimizer)
    assert torch.equal(judged, model.embed.weight)
    with evaluated_weights(torch.optim.SGD(model.parameters(), lr=1.0)):
        assert torch.equal(judged, model.embed.weight)


@pytest.mark.parametrize(
    ("warmup", "total", "steps"), [(7, None, 7), (0.25, 10, 3), (0, None, 0)], ids=["steps", "share", "none"]
)
def test_a_schedule_free_optimizer_warms_up_by_itself(warmup: float, total: int | None, steps: int) -> None:
    args = arguments("schedule_free_adamw", warmup_steps=warmup)
    assert optimizer_class_and_kwargs(args, num_training_steps=total)[1]["warmup_steps"] == steps


def test_a_share_of_a_training_without_a_length_is_no_warm_up() -> None:
    with pytest.raises(ValueError, match=r"as a number of steps; got the share 0\.1"):
        optimizer_class_and_kwargs(arguments("schedule_free_adamw", warmup_steps=0.1))


def test_muon_turns_hidden_matrices_only() -> None:
    model = Small()
    optimizer = optimizer_of(model, arguments("muon", optim_args="momentum=0.9,nesterov=False"))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [{names[id(parameter)] for parameter in group["params"]} for group in optimizer.param_groups]
    assert groups == [{"attn.weight"}, {"embed.weight"}, {"attn.bias", "norm.weight", "norm.bias", "head.bias"}] or (
        groups[0] == {"attn.weight"} and groups[1] == {"embed.weight", "head.weight"}
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.01, 0.0]
    assert {(group["momentum"], group["nesterov"]) for group in optimizer.param_groups} == {(0.9, False)}
    with pytest.raises(ValueError, match="hidden matrices"):
        optimizer_class_and_kwargs(arguments("muon"), nn.Embedding(3, 2))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_missing_package_is_an_error_with_the_line_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPES[name]
    package = recipe.target.partition(".")[0].partition(":")[0]
    if package in ("torch", "transformers", "instar"):
        assert not recipe.install
        return
    monkeypatch.setitem(sys.modules, recipe.target.partition(":")[0], None)
    with pytest.raises(ImportError) as raised:
        optimizer_class_and_kwargs(arguments(name), Small())
    assert isinstance(raised.value, ValueError)
    assert recipe.install
    assert recipe.install in str(raised.value)
    assert f"optim={name!r}" in str(raised.value)


@pytest.mark.parametrize(("name", "made"), [("adamw_torch_4bit", "AdamW4bit"), ("adamw_torch_8bit", "AdamW8bit")])
def test_torchao(name: str, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("torchao.optim")
    stand_in = type(made, (torch.optim.AdamW,), {})
    setattr(package, made, stand_in)
    monkeypatch.setitem(sys.modules, "torchao", types.ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.optim", package)
    found, kwargs = optimizer_class_and_kwargs(arguments(name, optim_args="block_size=128,bf16_stochastic_round=false"))
    assert found is stand_in
    assert (kwargs["block_size"], kwargs["bf16_stochastic_round"]) == (128, False)


def test_galore_in_8_bits_says_that_it_needs_cuda() -> None:
    if torch.cuda.is_available():
        assert optimizer_class_and_kwargs(arguments("galore_adamw_8bit"), Small())
        return
    with pytest.raises(RuntimeError, match="CUDA GPU only; galore_adamw runs"):
        optimizer_class_and_kwargs(arguments("galore_adamw_8bit"), Small())


@pytest.mark.parametrize("bits", [8, 32])
def test_embedding_tables_keep_32_bits_in_bitsandbytes(bits: int) -> None:
    model = Small()
    optimizer = optimizer_of(model, arguments("adamw_8bit" if bits == 8 else "lion_32bit"))
    loss_of(model, 0).backward()
    optimizer.step()
    kinds = {name: optimizer.state[parameter]["state1"].dtype for name, parameter in model.named_parameters()}
    assert kinds["embed.weight"] == torch.float32
    assert kinds["attn.weight"] == (torch.uint8 if bits == 8 else torch.float32)
