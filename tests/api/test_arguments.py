"""TrainingArguments: the fields of Transformers with the same defaults, what is derived, and what is refused."""

import dataclasses
import inspect
import json
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers.trainer_utils import IntervalStrategy as TheirIntervals

from instar.api import arguments as ours
from instar.api.arguments import (
    AcceleratorConfig,
    ArgumentError,
    DebugOption,
    IntervalStrategy,
    Seq2SeqTrainingArguments,
    TrainingArguments,
)
from instar.api.arguments.own import InstarArguments
from instar.api.arguments.refused import REFUSALS
from tests.api.argument_parts import faults

OWN = {field.name for field in dataclasses.fields(InstarArguments)}


def default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (TrainingArguments, transformers.TrainingArguments),
        (Seq2SeqTrainingArguments, transformers.Seq2SeqTrainingArguments),
    ],
    ids=["plain", "seq2seq"],
)
def test_every_field_of_transformers_is_there_in_its_order_with_its_default(mine: type, theirs: type):
    expected = {field.name: field for field in dataclasses.fields(theirs)}
    found = {field.name: field for field in dataclasses.fields(mine)}
    assert [name for name in found if name not in OWN] == list(expected)
    assert {name: default(field) for name, field in found.items() if name in expected} == {
        name: default(field) for name, field in expected.items()
    }
    assert all(field.metadata["help"] for field in found.values())
    for name, field in expected.items():
        assert list(field.metadata.get("choices", ())) == list(found[name].metadata.get("choices", ())), name


def test_arguments_and_what_they_hold_are_those_of_transformers():
    """So that `isinstance` and `issubclass` hold in users' code and in callbacks of others."""
    assert issubclass(TrainingArguments, transformers.TrainingArguments)
    assert issubclass(Seq2SeqTrainingArguments, transformers.Seq2SeqTrainingArguments)
    arguments = TrainingArguments(eval_strategy="steps", optim="adamw_torch", lr_scheduler_type="cosine")
    for value in (arguments.eval_strategy, arguments.optim, arguments.lr_scheduler_type, arguments.parallel_mode):
        assert type(value).__module__.startswith("transformers."), value
    assert isinstance(arguments.accelerator_config, transformers.trainer_pt_utils.AcceleratorConfig)
    assert TrainingArguments(optim="muon").optim == "muon", "the one that Transformers does not have"
    before = {field.name: dict(field.metadata) for field in dataclasses.fields(transformers.TrainingArguments)}
    assert not [name for name, metadata in before.items() if "aliases" in metadata], "their class stays as it was"


def test_own_arguments_stay_on_a_screen():
    assert len(dataclasses.fields(InstarArguments)) <= 14


def test_arguments_do_not_import_what_they_do_not_need():
    code = (
        "import sys; from instar.api.arguments import TrainingArguments; TrainingArguments('out'); "
        "print([name for name in ('datasets', 'pandas', 'deepspeed', 'transformers.trainer') "
        "if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_the_signature_is_the_flat_one_for_editors_and_tools():
    parameters = inspect.signature(TrainingArguments).parameters
    assert list(parameters)[:2] == ["output_dir", "per_device_train_batch_size"]
    assert len(parameters) == len(dataclasses.fields(TrainingArguments))
    assert inspect.signature(TrainingArguments).bind("out", learning_rate=1.0)


def test_values_that_follow_from_others():
    args = TrainingArguments("~/out", eval_strategy="steps", logging_steps=10, load_best_model_at_end=True)
    assert args.output_dir == str(Path("~/out").expanduser())
    assert args.eval_steps == 10
    assert args.do_eval
    assert args.metric_for_best_model == "loss"
    assert args.greater_is_better is False
    assert TrainingArguments(metric_for_best_model="accuracy").greater_is_better is True
    assert TrainingArguments().output_dir == "trainer_output"
    assert TrainingArguments(torch_compile_mode="default").torch_compile_backend == "inductor"
    assert TrainingArguments(use_cpu=True).dataloader_pin_memory is False
    assert TrainingArguments(include_num_input_tokens_seen=True).include_num_input_tokens_seen == "all"
    assert TrainingArguments(debug="underflow_overflow").debug == [DebugOption.UNDERFLOW_OVERFLOW]
    assert TrainingArguments(debug=None).debug == []
    assert TrainingArguments(activation_checkpointing=True).gradient_checkpointing is True
    assert TrainingArguments().activation_checkpointing is False
    assert TrainingArguments(save_steps=20.0).save_steps == 20
    assert isinstance(TrainingArguments(save_steps=20.0).save_steps, int)
    assert TrainingArguments(logging_steps=0.5).logging_steps == 0.5
    assert TrainingArguments(lr_scheduler_kwargs='{"factor": "0.5", "x": {"y": "true"}}').lr_scheduler_kwargs == {
        "factor": 0.5,
        "x": {"y": True},
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("none", []),
        (["none"], []),
        (None, []),
        ([], []),
        ("tensorboard", ["tensorboard"]),
        (["wandb", "mlflow"], ["wandb", "mlflow"]),
    ],
)
def test_report_to_becomes_a_list(given: Any, kept: list[str]):
    assert TrainingArguments(report_to=given).report_to == kept


def test_report_to_all_is_every_tracker_that_is_installed():
    from transformers.integrations import get_available_reporting_integrations

    assert TrainingArguments(report_to="all").report_to == get_available_reporting_integrations()


def test_kubeflow_reports_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", "http://127.0.0.1")
    assert TrainingArguments().report_to == ["kubeflow"]
    assert TrainingArguments(report_to=["kubeflow", "wandb"]).report_to == ["kubeflow", "wandb"]
    monkeypatch.setenv("DISABLE_KUBEFLOW_INTEGRATION", "TRUE")
    assert TrainingArguments().report_to == []


def test_choices_equal_their_strings_and_those_of_transformers():
    args = TrainingArguments(eval_strategy=TheirIntervals.EPOCH, optim="sgd")
    assert args.eval_strategy is IntervalStrategy.EPOCH
    assert args.eval_strategy == "epoch" == TheirIntervals.EPOCH
    assert {TheirIntervals.EPOCH: 1}[args.eval_strategy] == 1
    assert args.optim.value == "sgd"


def test_harmless_types_are_taken_as_they_are_meant():
    args = TrainingArguments(
        Path("out"), learning_rate=np.float32(0.5), max_steps=np.int64(3), seed=7.0, bf16=0, label_names=("a",)
    )
    assert (args.output_dir, args.learning_rate, args.max_steps, args.seed, args.bf16) == ("out", 0.5, 3, 7, False)
    assert type(args.max_steps) is int
    assert type(args.learning_rate) is float
    assert args.label_names == ["a"]
    assert TrainingArguments(max_grad_norm=None).max_grad_norm is None
    assert TrainingArguments(max_grad_norm=math.inf).max_grad_norm == math.inf


def test_all_faults_come_together():
    found = faults(
        learning_rate="1e-4", lr_scheduler_type="cosin", max_steps=2.5, label_names="labels", log_level="warn", fp16=2
    )
    assert found["learning_rate"] == "wanted a number; got '1e-4': write 1e-4 without quotes"
    assert found["max_steps"] == "wanted a whole number; got 2.5"
    assert "did you mean 'cosine'?" in found["lr_scheduler_type"]
    assert found["label_names"] == "wanted a list; got 'labels'"
    assert "did you mean 'warning'?" in found["log_level"]
    assert found["fp16"] == "wanted True or False; got 2"
    assert len(found) == 6


def test_the_text_of_the_error_counts_and_names():
    with pytest.raises(ValueError, match=r"^TrainingArguments: 2 faults:\n  adam_beta1: .*\n  fp16, bf16: "):
        TrainingArguments(fp16=True, bf16=True, use_cpu=True, adam_beta1=1.0)
    with pytest.raises(ValueError, match=r"^TrainingArguments: 1 fault:\n  non_finite: wanted 'stop' or 'skip'"):
        TrainingArguments(non_finite="slip")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"logging_steps": 0}, "logging_steps"),
        ({"logging_steps": 10.5}, "logging_steps"),
        ({"eval_strategy": "steps", "logging_steps": 0}, "eval_steps"),
        ({"eval_strategy": "steps", "eval_steps": 10.5}, "eval_steps"),
        ({"save_steps": 10.5}, "save_steps"),
        ({"warmup_steps": -1}, "warmup_steps"),
        ({"warmup_steps": 1.5}, "warmup_steps"),
        ({"torch_empty_cache_steps": 0}, "torch_empty_cache_steps"),
        ({"torch_empty_cache_steps": 1.0}, "torch_empty_cache_steps"),
        ({"torch_empty_cache_steps": "none"}, "torch_empty_cache_steps"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"fp16": True, "bf16": True, "use_cpu": True}, "fp16, bf16"),
        ({"fp16_full_eval": True, "bf16_full_eval": True, "use_cpu": True}, "fp16_full_eval, bf16_full_eval"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type"),
        ({"lr_scheduler_type": "greedy"}, "lr_scheduler_type"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor"),
        ({"dataloader_persistent_workers": True}, "dataloader_persistent_workers"),
        ({"include_for_metrics": ["input"]}, "include_for_metrics"),
        ({"include_num_input_tokens_seen": "some"}, "include_num_input_tokens_seen"),
        ({"weight_average_decay": 1.0}, "weight_average_decay"),
        ({"max_tokens_per_batch": 0}, "max_tokens_per_batch"),
        ({"save_best": True}, "save_best"),
        ({"fsdp": True, "deepspeed": {"zero_optimization": {"stage": 2}}}, "fsdp, deepspeed"),
        ({"lr_scheduler_kwargs": "{nonsense"}, "lr_scheduler_kwargs"),
        ({"accelerator_config": {"split_batch": True}}, "accelerator_config"),
        ({"accelerator_config": {"gradient_accumulation_kwargs": {"steps": 1}}}, "accelerator_config"),
        ({"accelerator_config": "no-such-file.json"}, "accelerator_config"),
        ({"debug": "underflow"}, "debug"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_that_cannot_be_used(values: dict[str, Any], field: str):
    assert field in faults(**values)


@pytest.mark.parametrize(
    ("values", "is_fine"),
    [
        ({"eval_strategy": "steps", "eval_steps": 10, "save_strategy": "epoch"}, False),
        ({"eval_strategy": "steps", "eval_steps": 10, "save_steps": 15}, False),
        ({"eval_strategy": "steps", "eval_steps": 10, "save_steps": 0.5}, False),
        ({"eval_strategy": "steps", "eval_steps": 0.2, "save_steps": 0.5}, False),
        ({"eval_strategy": "steps", "eval_steps": 0.5, "save_steps": 10}, False),
        ({}, False),
        ({"eval_strategy": "steps", "eval_steps": 10, "save_steps": 20}, True),
        ({"eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.3}, True),
        ({"eval_strategy": "epoch", "save_strategy": "epoch"}, True),
        ({"eval_strategy": "epoch", "save_strategy": "best"}, True),
        ({"eval_strategy": "steps", "eval_steps": 10, "save_strategy": "epoch", "save_best": True}, True),
        ({"eval_strategy": "steps", "eval_steps": 10, "save_steps": 15, "save_best": True}, True),
    ],
)
def test_the_best_model_needs_matching_strategies_unless_saved_by_itself(values: dict[str, Any], is_fine: bool):  # noqa: FBT001
    if is_fine:
        assert TrainingArguments(load_best_model_at_end=True, **values).load_best_model_at_end
    else:
        assert "load_best_model_at_end" in faults(load_best_model_at_end=True, **values)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_number_formats_of_a_gpu_are_refused_on_a_machine_without_one():
    assert "use_cpu=True" in faults(bf16=True)["bf16"]
    assert "use_cpu=True" in faults(bf16_full_eval=True)["bf16_full_eval"]
    assert "tf32" in faults(tf32=True)
    assert TrainingArguments(bf16=True, use_cpu=True).mixed_precision == "bf16"
    assert TrainingArguments(fp16=True).mixed_precision == "fp16"
    assert TrainingArguments(tf32=False).tf32 is False
    assert TrainingArguments().mixed_precision == "no"


def test_refused_values_say_why():
    assert "TPU" in faults(debug="tpu_metrics_debug")["debug"]
    with pytest.raises(ArgumentError, match="group_by_length"):
        Seq2SeqTrainingArguments(sortish_sampler=True)


def test_the_configuration_of_accelerate_in_every_form(tmp_path: Path):
    from transformers.trainer_pt_utils import AcceleratorConfig as Theirs

    path = tmp_path / "accelerator.json"
    path.write_text(json.dumps({"split_batches": True, "even_batches": False}))
    theirs = Theirs(split_batches=True, even_batches=False)
    for given in ({"split_batches": True, "even_batches": False}, path, str(path), theirs):
        config = TrainingArguments(accelerator_config=given).accelerator_config
        assert (config.split_batches, config.even_batches, config.use_seedable_sampler) == (True, False, True)
    assert {field.name for field in dataclasses.fields(AcceleratorConfig)} == {
        field.name for field in dataclasses.fields(Theirs)
    }
    with pytest.raises(NotImplementedError, match="Tried passing in a callable to `accelerator_config`"):
        TrainingArguments(accelerator_config=AcceleratorConfig)


def test_accumulation_may_be_said_in_the_configuration_of_accelerate():
    config = AcceleratorConfig(gradient_accumulation_kwargs={"num_steps": 10, "sync_each_batch": True})
    assert config.accumulation_steps(1) == config.accumulation_steps(10) == 10
    with pytest.raises(ValueError, match="The `AcceleratorConfig`'s `num_steps` is set but"):
        config.accumulation_steps(2)
    assert AcceleratorConfig().accumulation_steps(3) == 3
    options = AcceleratorConfig(split_batches=True, even_batches=False).accelerator_options(data_seed=7)
    assert (options["dataloader_config"].split_batches, options["dataloader_config"].even_batches) == (True, False)
    assert options["gradient_accumulation_plugin"].num_steps == 1


@pytest.mark.parametrize(("warmup", "steps"), [(0, 0), (7, 7), (0.1, 11), (1, 1), (0.999, 109)])
def test_warm_up_is_a_number_of_steps_or_a_share(warmup: float, steps: int):
    assert TrainingArguments(warmup_steps=warmup).get_warmup_steps(109) == steps


TOLD = {"run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"}
"""Fields that Transformers' callbacks read for their trackers."""
THEIRS = transformers.TrainingArguments
INHERITED: list[Any] = [
    transformers.DefaultFlowCallback,
    THEIRS.should_log.fget,
    THEIRS.should_save.fget,
    THEIRS.ddp_timeout_delta.fget,
    THEIRS.get_process_log_level,
    THEIRS.get_warmup_steps,
]
"""What of Transformers reads fields in our place."""
SCRIPTS = {"do_train", "do_eval", "do_predict", "resume_from_checkpoint", "local_rank"}


def test_no_field_is_ignored():
    """Each is read where something is done, handed to a tracker, for scripts only, or refused."""
    room = Path(inspect.getfile(ours)).parents[1]
    acting = [path for path in room.rglob("*.py") if path.parent != room / "arguments"]
    acting += [room / "arguments" / name for name in ("devices.py", "parallelism.py", "flat.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in acting)
    text += "\n".join(map(inspect.getsource, INHERITED))
    refused = {refusal.field for refusal in REFUSALS}
    read = {
        field.name
        for field in dataclasses.fields(Seq2SeqTrainingArguments)
        if re.search(rf"\b{field.name}\b", text) or (field.name.startswith("generation_") and "generation_{" in text)
    }
    ignored = {field.name for field in dataclasses.fields(Seq2SeqTrainingArguments)} - read - refused
    assert not ignored - TOLD - SCRIPTS


def test_the_page_about_arguments_says_what_the_code_does():
    root = Path(__file__).parents[2]
    build = runpy.run_path(str(root / "docs" / "build.py"))
    page = (root / "docs" / "trainer-arguments.md").read_text(encoding="utf-8")
    for name, table in build["argument_tables"]().items():
        assert f"<!-- {name} -->\n{table}<!-- /{name} -->" in page, "run make docs"
