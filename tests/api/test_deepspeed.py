"""A DeepSpeed configuration, a sharded run and groups of processes, each as what the engine is asked for."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from instar.api import deepspeed
from instar.api.arguments import ArgumentError, TrainingArguments, parallel_of
from instar.api.arguments.parallelism import say_once
from instar.trainer.parallel.config import Ddp, Fsdp

AUTOMATIC: dict[str, Any] = {
    "fp16": {"enabled": "auto", "loss_scale": 0, "loss_scale_window": 1000, "initial_scale_power": 16, "hysteresis": 2},
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "scheduler": {
        "type": "WarmupDecayLR",
        "params": {
            "warmup_min_lr": "auto",
            "warmup_max_lr": "auto",
            "warmup_num_steps": "auto",
            "total_num_steps": "auto",
        },
    },
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "sub_group_size": 1e9,
        "reduce_bucket_size": "auto",
        "stage3_gather_16bit_weights_on_model_save": True,
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "steps_per_print": 2000,
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "wall_clock_breakdown": False,
}


def arguments(config: Any, **values: Any) -> TrainingArguments:
    return TrainingArguments("out", deepspeed=config, **values)


def faults(config: Any, **values: Any) -> dict[str, str]:
    with pytest.raises(ArgumentError) as caught:
        arguments(config, **values)
    return {fault.field.removeprefix("deepspeed."): fault.text for fault in caught.value.faults}


def test_a_configuration_that_leaves_all_to_the_arguments_changes_none():
    args, plain = arguments(AUTOMATIC), TrainingArguments("out")
    assert {**args.to_dict(), "deepspeed": None} == plain.to_dict()
    assert args.deepspeed == AUTOMATIC, "what the user gave is left as it is"
    assert args.deepspeed_plugin.zero_stage == 3
    assert plain.deepspeed_plugin is None


@pytest.mark.parametrize(
    ("stage", "wanted"),
    [
        (0, Ddp(broadcast_buffers=True)),
        (1, Fsdp(reshard_after_forward=False)),
        (2, Fsdp(reshard_after_forward=False)),
        (3, Fsdp(reshard_after_forward=True)),
    ],
)
def test_stages_become_the_engine(stage: int, wanted: Ddp | Fsdp):
    assert parallel_of(arguments({"zero_optimization": {"stage": stage}})) == wanted


@pytest.mark.parametrize(
    "offload",
    [
        {"offload_optimizer": {"device": "cpu", "pin_memory": True}},
        {"offload_param": {"device": "cpu"}},
        {"cpu_offload": True},
    ],
)
def test_offloading_is_that_of_fsdp(offload: dict[str, Any]):
    assert parallel_of(arguments({"zero_optimization": {"stage": 2, **offload}})) == Fsdp(
        reshard_after_forward=False, cpu_offload=True
    )


def test_values_of_the_configuration_decide_arguments_at_their_default():
    args = arguments(
        {
            "train_micro_batch_size_per_gpu": 4,
            "gradient_accumulation_steps": 2,
            "train_batch_size": 8,
            "gradient_clipping": 1,
            "optimizer": {
                "type": "Adam",
                "params": {"lr": 0.25, "betas": [0.5, 0.75], "eps": 1e-3, "weight_decay": 0.5, "adam_w_mode": True},
            },
            "scheduler": {
                "type": "WarmupCosineLR",
                "params": {"warmup_num_steps": 10, "cos_min_ratio": 0.5, "warmup_type": "linear"},
            },
            "fp16": {"enabled": True},
            "activation_checkpointing": {"partition_activations": False},
            "tensorboard": {"enabled": True, "output_path": "logs"},
            "compile": {"enabled": True},
        }
    )
    assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.max_grad_norm) == (4, 2, 1.0)
    assert (args.learning_rate, args.adam_beta1, args.adam_beta2, args.adam_epsilon) == (0.25, 0.5, 0.75, 1e-3)
    assert (args.optim, args.weight_decay, args.fp16, args.mixed_precision) == ("adamw_torch_fused", 0.5, True, "fp16")
    assert (args.lr_scheduler_type, args.warmup_steps) == ("cosine_with_min_lr", 10)
    assert args.lr_scheduler_kwargs == {"min_lr_rate": 0.5}
    assert args.report_to == ["tensorboard"]
    assert args.torch_compile_backend == "inductor"


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("AdamW", "adamw_torch_fused"), ("SGD", "sgd"), ("Adagrad", "adagrad"), ("Lion", "lion_32bit"), ("Muon", "muon")],
)
def test_optimizers(kind: str, optimizer: str):
    assert arguments({"optimizer": {"type": kind, "params": {"lr": 0.5}}}).optim == optimizer


@pytest.mark.parametrize(
    ("config", "values"),
    [
        ({"train_batch_size": 32}, {"per_device_train_batch_size": 32}),
        ({"train_batch_size": 32, "gradient_accumulation_steps": 4}, {"per_device_train_batch_size": 8}),
        ({"train_batch_size": 32, "train_micro_batch_size_per_gpu": 4}, {"gradient_accumulation_steps": 8}),
    ],
)
def test_two_of_three_sizes_give_the_third(config: dict[str, Any], values: dict[str, int]):
    args = arguments(config)
    assert {name: getattr(args, name) for name in values} == values


def test_a_file_is_read_as_the_mapping_it_holds(tmp_path: Path):
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({"gradient_clipping": 0.5}))
    assert arguments(str(path)).max_grad_norm == 0.5
    assert arguments(path).max_grad_norm == 0.5
    assert arguments('{"gradient_clipping": "0.5"}').max_grad_norm == 0.5, "JSON of a command line"
    path.write_text("{")
    assert "a JSON file" in faults(str(path))["deepspeed"]
    assert "a JSON file" in faults(str(tmp_path / "absent.json"))["deepspeed"]


def test_contradictions_and_keys_without_an_equivalent_come_together():
    found = faults(
        {
            **AUTOMATIC,
            "train_micro_batch_size_per_gpu": 4,
            "train_batch_size": 1000,
            "gradient_accumulation_steps": 4,
            "gradient_clipping": 1.1,
            "optimizer": {"type": "OneBitAdam"},
            "scheduler": {"type": "OneCycle"},
            "fp16": {"enabled": False, "loss_scale": 128},
            "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}, "stages": 1, "mics_shard_size": 8},
            "amp": {"enabled": True},
            "elasticity": {"enabled": True},
            "gradient_cliping": 1.0,
        },
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_grad_norm=2.0,
        fp16=True,
    )
    assert set(found) == {
        "train_micro_batch_size_per_gpu",
        "train_batch_size",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "optimizer.type",
        "scheduler.type",
        "fp16.enabled",
        "fp16.loss_scale",
        "zero_optimization.offload_param.device",
        "zero_optimization.stages",
        "zero_optimization.mics_shard_size",
        "amp",
        "elasticity",
        "gradient_cliping",
    }
    assert "max_grad_norm=2.0 is given as well" in found["gradient_clipping"]
    assert "did you mean 'gradient_clipping'?" in found["gradient_cliping"]
    assert "did you mean 'stage'?" in found["zero_optimization.stages"]


@pytest.mark.parametrize("key", sorted(deepspeed.REFUSED))
def test_what_is_switched_off_is_not_refused(key: str):
    arguments({key: {"enabled": False}})
    arguments({key: None})
    assert key in faults({key: {"enabled": True}})


@pytest.mark.parametrize(
    ("params", "key"),
    [
        ({"warmup_min_lr": 1e-6}, "warmup_min_lr"),
        ({"warmup_type": "log"}, "warmup_type"),
        ({"total_num_steps": 100}, "total_num_steps"),
        ({"cycle": 1}, "cycle"),
    ],
)
def test_schedules_that_would_be_another_curve(params: dict[str, Any], key: str):
    assert f"scheduler.params.{key}" in faults({"scheduler": {"type": "WarmupDecayLR", "params": params}})
    given = {"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 100}}}
    assert arguments(given, max_steps=100).lr_scheduler_type == "linear"


def test_every_mapping_is_said_once(caplog: pytest.LogCaptureFixture):
    say_once.cache_clear()
    config = {"zero_optimization": {"stage": 2, "overlap_comm": True}, "gradient_clipping": 0.5}
    with caplog.at_level(logging.WARNING):
        arguments(config)
        arguments(config)
    assert [record.getMessage() for record in caplog.records] == [
        "deepspeed.zero_optimization.stage means 2: FSDP2 that keeps gathered weights until the backward pass",
        "deepspeed.zero_optimization: overlap_comm: FSDP2 chooses sizes and order of its exchanges itself, "
        "and saves whole weights",
        "deepspeed.gradient_clipping means max_grad_norm=0.5",
    ]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("full_shard", Fsdp()),
        ("full_shard auto_wrap offload", Fsdp(cpu_offload=True)),
        (["shard_grad_op"], Fsdp(reshard_after_forward=False)),
        ("hybrid_shard", Fsdp()),
        ("no_shard", Ddp(broadcast_buffers=True)),
    ],
)
def test_fsdp_in_words_is_legal_in_one_process(words: Any, wanted: Ddp | Fsdp):
    with pytest.warns(FutureWarning, match="write fsdp=True") as caught:
        args = TrainingArguments("out", fsdp=words)
    assert parallel_of(args) == wanted
    assert args.fsdp is True
    assert caught[0].filename == __file__


def test_hybrid_sharding_has_a_copy_on_each_machine(monkeypatch: pytest.MonkeyPatch):
    args = TrainingArguments("out", fsdp=True, fsdp_config={"reshard_after_forward": "hybrid_shard"})
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert parallel_of(args) == Fsdp(replicas=2)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, Fsdp()),
        (
            {"fsdp_transformer_layer_cls_to_wrap": "A, B", "cpu_offload": "true"},
            Fsdp(layers=("A", "B"), cpu_offload=True),
        ),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP", "min_num_params": 100}, Fsdp(min_parameters=100)),
        ({"auto_wrap_policy": "NO_WRAP"}, Fsdp(layers=())),
        ({"reshard_after_forward": "false"}, Fsdp(reshard_after_forward=False)),
        ({"version": 1, "fsdp_sharding_strategy": "SHARD_GRAD_OP"}, Fsdp(reshard_after_forward=False)),
        ({"fsdp_offload_params": True, "state_dict_type": "SHARDED_STATE_DICT"}, Fsdp(cpu_offload=True)),
    ],
)
def test_settings_of_fsdp(settings: dict[str, Any], wanted: Fsdp, tmp_path: Path):
    args = TrainingArguments("out", fsdp=True, fsdp_config=settings)
    assert parallel_of(args) == wanted
    path = tmp_path / "fsdp.json"
    path.write_text(json.dumps(settings))
    assert TrainingArguments("out", fsdp=True, fsdp_config=str(path)).fsdp_config == args.fsdp_config


def test_activations_can_be_checkpointed_through_fsdp():
    assert TrainingArguments("out", fsdp=True, fsdp_config={"activation_checkpointing": True}).activation_checkpointing


def test_faults_of_fsdp_come_together():
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(
            "out",
            fsdp=True,
            fsdp_config={
                "xla": True,
                "cpu_ofload": True,
                "version": 3,
                "auto_wrap_policy": "SOME",
                "reshard_after_forward": 7,
            },
        )
    found = {fault.field: fault.text for fault in caught.value.faults}
    assert "did you mean 'cpu_offload'?" in found.pop("fsdp_config.cpu_ofload")
    assert "TPU" in found.pop("fsdp_config")
    assert set(found) == {
        "fsdp_config.version",
        "fsdp_config.auto_wrap_policy",
        "fsdp_config.reshard_after_forward",
    }
    with pytest.warns(FutureWarning), pytest.raises(ArgumentError, match="did you mean 'full_shard'"):
        TrainingArguments("out", fsdp="full_shad")


def test_ddp_takes_what_the_arguments_say():
    args = TrainingArguments(
        "out",
        ddp_find_unused_parameters=False,
        ddp_bucket_cap_mb=7,
        ddp_broadcast_buffers=False,
        ddp_static_graph=True,
        ddp_backend="gloo",
        ddp_timeout=90,
    )
    assert parallel_of(args) == Ddp(
        find_unused_parameters=False,
        bucket_cap_mb=7,
        broadcast_buffers=False,
        static_graph=True,
        backend="gloo",
        timeout=1.5,
    )


LAUNCHED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_SHARDING_STRATEGY": "1",
    "FSDP_RESHARD_AFTER_FORWARD": "false",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "Block",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_OFFLOAD_PARAMS": "true",
    "FSDP_MIN_NUM_PARAMS": "0",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "false",
}


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"FSDP_VERSION": "2"}, Fsdp(reshard_after_forward=False, layers=("Block",), cpu_offload=True)),
        ({"FSDP_VERSION": "1"}, Fsdp(layers=("Block",), cpu_offload=True)),
        ({"FSDP_SHARDING_STRATEGY": "NO_SHARD"}, Ddp(broadcast_buffers=True)),
    ],
    ids=["two", "one", "words"],
)
def test_what_the_launcher_of_accelerate_was_told_of_fsdp(
    told: dict[str, str], wanted: Ddp | Fsdp, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {**LAUNCHED, **told}.items():
        monkeypatch.setenv(name, value)
    assert parallel_of(TrainingArguments("out")) == wanted


def test_what_the_launcher_of_accelerate_was_told_of_deepspeed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    told = {"USE_DEEPSPEED": "true", "DEEPSPEED_ZERO_STAGE": "3", "GRADIENT_CLIPPING": "0.5"}
    for name, value in {**told, "DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    args = TrainingArguments("out")
    assert parallel_of(args) == Fsdp(cpu_offload=True)
    assert (args.max_grad_norm, args.deepspeed) == (0.5, None)
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))
    assert parallel_of(TrainingArguments("out")) == Fsdp(reshard_after_forward=False)


@pytest.fixture
def four_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a launcher had started four; nothing is joined."""
    monkeypatch.setattr(TrainingArguments, "world_size", 4)


@pytest.mark.usefixtures("four_processes")
def test_sizes_of_groups():
    sizes = SimpleNamespace(dp_replicate_size=1, dp_shard_size=2, tp_size=2, cp_size=1, sp_size=1)
    assert parallel_of(TrainingArguments("out", parallelism_config=sizes)) == Fsdp(tp=2)
    args = TrainingArguments("out", parallelism_config={"dp_replicate_size": 2, "dp_shard_size": 2})
    assert parallel_of(args) == Fsdp(replicas=2)
    assert parallel_of(TrainingArguments("out", tensor_parallel_size=4)) == Ddp(tp=4, broadcast_buffers=True)
    args = arguments({"tensor_parallel": {"autotp_size": 2}, "zero_optimization": {"stage": 1}})
    assert parallel_of(args) == Fsdp(tp=2, reshard_after_forward=False)


@pytest.mark.usefixtures("four_processes")
def test_sizes_that_do_not_fit_the_processes():
    for values, text in (
        ({"parallelism_config": {"tp_size": 3}}, "asks for 3 processes; there are 4"),
        ({"parallelism_config": {"cp_size": 2}}, "context parallel"),
        ({"parallelism_config": {"tp_siz": 2, "x_size": 1}}, "sizes of"),
        ({"tensor_parallel_size": 3}, "a divisor of the 4"),
        ({"tensor_parallel_size": 2, "parallelism_config": {"tp_size": 4}}, "4 as in parallelism_config"),
    ):
        with pytest.raises(ArgumentError, match=text):
            TrainingArguments("out", **values)
