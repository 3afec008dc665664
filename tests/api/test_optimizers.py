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
    fsdp: bool | None = None


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
    with judged_weights(optimizer):
        assert not torch.equal(before[0], model.embed.weight)
        judged = model.embed.weight.detach().clone()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    eval_mode(optimizer)
    assert torch.equal(judged, model.embed.weight)
    with judged_weights(torch.optim.SGD(model.parameters(), lr=1.0)):
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


def test_names_are_those_of_transformers_and_muon() -> None:
    from transformers.training_args import OptimizerNames

    assert set(RECIPES) == {name.value for name in OptimizerNames} | {"muon"}
    assert optimizer_class_and_kwargs(arguments("sgd", optim=OptimizerNames.SGD))[0] is torch.optim.SGD


OPTIONS = {
    "sgd": "momentum=0.5,nesterov=True,dampening=0",
    "adagrad": "lr_decay=0.1,eps=1e-3",
    "rmsprop": "momentum=0.5,alpha=0.8,centered=True",
    "ademamix": "beta3=0.99,alpha=3,t_alpha=10",
    "grokadamw": "lamb=3",
    "schedule_free_sgd": "r=0.5",
    "stable_adamw": "decouple_lr=True,max_lr=0.1,kahan_sum=True",
}


FAILS_THERE = ("galore_adafactor_layerwise",)


@pytest.mark.filterwarnings("ignore:This implementation of AdamW is deprecated")
@pytest.mark.parametrize("name", [name for name in ON_A_CPU if name not in (*FAILS_THERE, "muon")])
def test_class_and_arguments_are_those_of_transformers(name: str) -> None:
    """And more where Transformers leaves out an argument that the user gave."""
    from transformers.trainer_optimizer import _OPTIMIZER_HANDLERS, OptimizerContext, _parse_optim_args

    args = arguments(name)
    args.optim_args = OPTIONS.get(name, args.optim_args)
    args.parallel_mode = None
    adam = {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
    context = OptimizerContext(args, Small(), {"lr": args.learning_rate}, adam, _parse_optim_args(args.optim_args))
    theirs, wanted = _OPTIMIZER_HANDLERS[name](context)
    ours, kwargs = optimizer_class_and_kwargs(args, Small())
    if not name.endswith("_layerwise"):
        assert ours.__name__ == theirs.__name__.removeprefix("GaLore")
    groups, expected = kwargs.pop("params", []), wanted.pop("params", [])
    for key in wanted.keys() - {"model", "optimizer_dict"}:
        assert kwargs[key] == wanted[key], key
    own = {"weight_decay", "betas", "eps", "no_deprecation_warning", "base", "scale_parameter", "relative_step"}
    assert kwargs.keys() - wanted.keys() <= own
    if expected:
        projected, reference = groups[-1], expected[-1]
        assert [p.shape for p in projected["params"]] == [p.shape for p in reference["params"]]
        assert {key: projected.get(key, kwargs.get(key)) for key in reference} | {"params": 0} == reference | {
            "params": 0
        }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optim": "adam_torch"}, ["wanted one of", "'adam_torch'; did you mean 'adamw_torch'"]),
        (
            {"optim": "sgd", "optim_args": "momentun=1, nesterov=maybe, dampening=x"},
            [
                "'momentun'; did you mean 'momentum'",
                "nesterov: wanted true or false; got 'maybe'",
                "dampening: wanted a",
            ],
        ),
        ({"optim": "adafactor", "optim_args": "beta1"}, ["wanted name=value; got 'beta1'"]),
        ({"optim": "sgd", "optim_args": "momentum=1,momentum=2"}, ["momentum is given twice"]),
        ({"optim": "lion_8bit", "optim_args": "rank=1"}, ["lion_8bit takes no option; got 'rank'"]),
        ({"optim": "galore_adamw", "optim_target_modules": None}, ["needs optim_target_modules"]),
        ({"optim": "galore_adamw", "optim_target_modules": "nothing"}, ["matches a linear layer (attn, head"]),
        ({"optim": "apollo_adamw", "optim_target_modules": ["attn"], "optim_args": "proj=x"}, ["one of random, svd"]),
    ],
)
def test_faults_are_told_together(given: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ValueError, match="optim") as raised:
        optimizer_class_and_kwargs(Arguments(**given), Small())
    assert [text for text in said if text not in str(raised.value)] == []


def test_targets_of_another_type_are_an_error() -> None:
    with pytest.raises(TypeError, match="got 3"):
        optimizer_class_and_kwargs(arguments("galore_adamw", optim_target_modules=3), Small())


@pytest.mark.parametrize("name", ["galore_adamw", "lomo", "muon", "adalomo", "apollo_adamw_layerwise"])
def test_an_optimizer_that_reads_the_model_asks_for_it(name: str) -> None:
    with pytest.raises(ValueError, match="reads the model"):
        optimizer_class_and_kwargs(arguments(name))


def test_targets_that_are_not_read_are_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        optimizer_class_and_kwargs(arguments("adamw_torch", optim_target_modules=["attn"]))
    assert "optim_target_modules is for the GaLore and APOLLO optimizers" in caplog.text


@pytest.mark.parametrize(
    "wanted", ["all-linear", "all_linear", ".*attn.*", "attn", ["attn", "head"], [".*tt.*"], ["at"], [r"h\w+"]]
)
def test_targets_are_those_of_transformers(wanted: Any, caplog: pytest.LogCaptureFixture) -> None:
    from transformers.trainer_utils import check_target_module_exists

    kwargs = optimizer_class_and_kwargs(arguments("galore_adamw", optim_target_modules=wanted), model := Small())[1]
    found = {id(parameter) for parameter in kwargs["params"][-1]["params"]}
    everything = isinstance(wanted, str) and wanted.startswith("all")
    assert found == {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and (everything or check_target_module_exists(wanted, name))
    }
    assert not caplog.text


def test_the_root_logger_stays_as_it_is() -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    optimizer_class_and_kwargs(arguments("grokadamw"))
    assert (root.handlers, root.level) == before


class Odd(nn.LayerNorm):
    """A norm with a matrix inside."""

    def __init__(self) -> None:
        super().__init__(4)
        self.inner = nn.Linear(4, 4)


def odd_models() -> Iterator[nn.Module]:
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM

    yield Small()
    yield nn.LayerNorm(3)
    yield nn.Sequential(
        Odd(), nn.ModuleDict({"norm": nn.Linear(2, 2), "q_norm": nn.Linear(2, 2), "RMSNorm": nn.Linear(2, 2)})
    )
    yield nn.Sequential(nn.BatchNorm1d(3), nn.Bilinear(2, 2, 2), nn.ModuleDict({"normal": nn.Linear(2, 2)}))
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "vocab_size": 9,
    }
    yield BertForMaskedLM(BertConfig(**small))
    yield LlamaForCausalLM(LlamaConfig(**small))


def test_what_decays_is_what_decays_in_transformers() -> None:
    from transformers.trainer import Trainer

    for model in odd_models():
        assert decay_parameter_names(model) == Trainer.get_decay_parameter_names(None, model)


def test_groups_hold_what_is_trained_once_in_order() -> None:
    model = Small()
    model.attn.bias.requires_grad_(requires_grad=False)
    decaying, free = parameter_groups(model, 0.1)
    assert [id(p) for p in decaying["params"]] == [
        id(p) for p in (model.embed.weight, model.attn.weight, model.head.weight)
    ]
    assert [id(p) for p in free["params"]] == [id(p) for p in (model.norm.weight, model.norm.bias, model.head.bias)]
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert [len(group["params"]) for group in parameter_groups(model, 0.1, ["embed.weight"])] == [1, 5]
    assert len(parameter_groups(nn.Linear(2, 2, bias=False), 0.1)) == 2, "either may be empty"


class Factory:
    def __call__(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=lr)


def test_a_user_may_bring_a_class_or_a_factory() -> None:
    model = Small()
    groups = parameter_groups(model, 0.0)
    assert is_optimizer_factory(Factory)
    assert not is_optimizer_factory(torch.optim.SGD)
    assert build_optimizer(model, Factory, {"lr": 3.0}, groups).param_groups[0]["lr"] == 3.0
    own = build_optimizer(model, torch.optim.SGD, {"lr": 3.0, "params": [model.head.weight]}, groups)
    assert own.param_groups[0]["params"][0] is model.head.weight
    copied = copy.deepcopy(groups)
    assert len(build_optimizer(model, torch.optim.SGD, {"lr": 3.0}, copied).param_groups) == 2
