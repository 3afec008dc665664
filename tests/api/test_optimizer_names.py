"""Names of `optim` mean what they mean in Transformers; groups, targets, and what users bring."""

import copy
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from instar.api.optimizers import (
    RECIPES,
    build_optimizer,
    decay_parameter_names,
    is_optimizer_factory,
    optimizer_class_and_kwargs,
    parameter_groups,
)
from tests.api.optimizer_parts import ON_A_CPU, Arguments, Small, arguments


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
