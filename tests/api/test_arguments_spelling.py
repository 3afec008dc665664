"""Old names, unknown names, and the command line."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import transformers

from instar.api.arguments import ArgumentError, Seq2SeqTrainingArguments, TrainingArguments
from instar.api.arguments.spelling import SPELLINGS

REMOVED = [
    "overwrite_output_dir",
    "per_gpu_train_batch_size",
    "per_gpu_eval_batch_size",
    "warmup_ratio",
    "logging_dir",
    "save_safetensors",
    "no_cuda",
    "use_mps_device",
    "jit_mode_eval",
    "fp16_opt_level",
    "half_precision_backend",
    "fp16_backend",
    "tpu_num_cores",
    "tpu_metrics_debug",
    "past_index",
    "fsdp_min_num_params",
    "fsdp_transformer_layer_cls_to_wrap",
    "adafactor",
    "group_by_length",
    "use_legacy_prediction_loop",
    "include_inputs_for_metrics",
    "push_to_hub_model_id",
    "push_to_hub_organization",
    "push_to_hub_token",
    "_n_gpu",
    "mp_parameters",
    "torchdynamo",
    "ray_scope",
    "include_tokens_per_second",
    "evaluation_strategy",
]


def test_every_name_that_was_removed_is_known():
    assert set(REMOVED) <= set(SPELLINGS)


MEANT: dict[str, tuple[Any, str, Any]] = {
    "evaluation_strategy": ("epoch", "eval_strategy", "epoch"),
    "evaluate_during_training": (True, "eval_strategy", "steps"),
    "warmup_ratio": (0.25, "warmup_steps", 0.25),
    "group_by_length": (True, "train_sampling_strategy", "group_by_length"),
    "no_cuda": (True, "use_cpu", True),
    "per_gpu_train_batch_size": (3, "per_device_train_batch_size", 3),
    "per_gpu_eval_batch_size": (3, "per_device_eval_batch_size", 3),
    "adafactor": (True, "optim", "adafactor"),
    "include_inputs_for_metrics": (True, "include_for_metrics", ["inputs"]),
    "include_tokens_per_second": (True, "include_num_input_tokens_seen", "all"),
    "push_to_hub_model_id": ("me/model", "hub_model_id", "me/model"),
    "push_to_hub_organization": ("us", "hub_model_id", "us/out"),
    "push_to_hub_token": ("secret", "hub_token", "secret"),
    "torchdynamo": ("eager", "torch_compile_backend", "eager"),
    "xpu_backend": ("gloo", "ddp_backend", "gloo"),
    "logging_dir": ("logs", "logging_dir", "logs"),
    "ray_scope": ("all", "ray_scope", "all"),
    "overwrite_output_dir": (True, "output_dir", "out"),
    "use_mps_device": (True, "use_cpu", False),
    "use_legacy_prediction_loop": (True, "use_cpu", False),
    "save_safetensors": (True, "output_dir", "out"),
    "_n_gpu": (1, "output_dir", "out"),
    "dispatch_batches": (False, "use_cpu", False),
}


@pytest.mark.parametrize("old", MEANT)
def test_an_old_name_means_what_it_meant_and_is_said_once(old: str):
    value, new, meant = MEANT[old]
    with pytest.warns(FutureWarning) as caught:
        args = TrainingArguments("out", **{old: value})
    assert getattr(args, new) == meant
    (warning,) = caught
    assert str(warning.message).startswith(f"{old} is an old spelling; write ")
    assert warning.filename == __file__, "the warning is about the user's line"
    assert "secret" not in str(warning.message)


REFUSED: dict[str, Any] = {
    "save_safetensors": False,
    "tpu_metrics_debug": True,
    "tpu_num_cores": 8,
    "mp_parameters": "a=1",
    "sharded_ddp": "simple",
    "jit_mode_eval": True,
    "use_ipex": True,
    "past_index": 2,
    "fp16_backend": "apex",
    "half_precision_backend": "apex",
    "fp16_opt_level": "O2",
}


@pytest.mark.parametrize("old", REFUSED)
def test_an_old_name_without_a_meaning_is_refused_when_it_asks_for_something(old: str):
    with pytest.raises(ArgumentError, match=f"{old}: .*; got") as caught:
        TrainingArguments("out", **{old: REFUSED[old]}, learning_rate="high")
    assert [fault.field for fault in caught.value.faults] == [old, "learning_rate"], "with the other faults"
    unset = SPELLINGS[old].unset
    with pytest.warns(FutureWarning, match=old):
        TrainingArguments("out", **{old: unset[-1]})


def test_every_old_name_is_tried_above():
    tried = {*MEANT, *REFUSED, "fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap", "split_batches"}
    assert tried == set(SPELLINGS)


def test_old_names_that_became_keys_of_a_mapping():
    with pytest.warns(FutureWarning, match="old spelling"):
        args = TrainingArguments("out", fsdp=True, fsdp_min_num_params=10, fsdp_config={"cpu_offload": True})
    assert args.fsdp_config["min_num_params"] == 10
    assert args.fsdp_config["cpu_offload"] is True
    with pytest.warns(FutureWarning, match="old spelling"):
        args = TrainingArguments("out", fsdp=True, fsdp_transformer_layer_cls_to_wrap="Block")
    assert args.fsdp_config["transformer_layer_cls_to_wrap"] == ["Block"]
    with pytest.warns(FutureWarning, match="accelerator_config"):
        assert TrainingArguments("out", split_batches=True).accelerator_config.split_batches


def test_an_old_name_beside_the_new_one():
    with pytest.warns(FutureWarning, match="warmup_ratio"):
        assert TrainingArguments("out", warmup_ratio=0.0, warmup_steps=100).warmup_steps == 100
    with pytest.warns(FutureWarning, match="warmup_ratio"):
        assert TrainingArguments("out", warmup_ratio=0.1, warmup_steps=0).warmup_steps == 0.1
    with pytest.warns(FutureWarning, match="evaluation_strategy"):
        TrainingArguments("out", evaluation_strategy="epoch", eval_strategy="epoch")
    with (
        pytest.warns(FutureWarning, match="evaluation_strategy"),
        pytest.raises(ArgumentError, match=r"evaluation_strategy: means eval_strategy='epoch'.*keep one"),
    ):
        TrainingArguments("out", evaluation_strategy="epoch", eval_strategy="steps")


def test_tensorboard_writes_where_the_old_argument_says(tmp_path: Path):
    from instar.api.callbacks import reporting_callbacks

    with pytest.warns(FutureWarning, match="TENSORBOARD_LOGGING_DIR"):
        args = TrainingArguments("out", logging_dir=str(tmp_path), report_to="tensorboard")
    (writer,) = reporting_callbacks(args.report_to, args.logging_dir)
    assert writer.logging_dir == str(tmp_path)


def test_gradient_checkpointing_is_the_old_name_of_activation_checkpointing():
    with pytest.warns(FutureWarning, match="activation_checkpointing") as caught:
        args = TrainingArguments("out", gradient_checkpointing=True)
    assert args.activation_checkpointing is True
    assert [warning.filename for warning in caught] == [__file__]


def test_unknown_names_come_together_with_the_nearest():
    with pytest.raises(TypeError) as caught:
        TrainingArguments("out", learning_rat=0.1, evaluation_strateg="no", xyzzy=1)
    lines = str(caught.value).splitlines()
    assert lines[0] == "TrainingArguments: 3 unknown:"
    assert lines[1:] == [
        "  learning_rat: no such argument; did you mean 'learning_rate'?",
        "  evaluation_strateg: no such argument; did you mean 'evaluation_strategy'?",
        "  xyzzy: no such argument",
    ]
    with pytest.raises(TypeError) as caught:
        TrainingArguments("out", xyzzy=1, learning_rate=-1, fp16_opt_level="O2", per_device_train_batch_size=0)
    said = str(caught.value)
    assert "TrainingArguments: 1 unknown:" in said
    assert "TrainingArguments: 3 faults:" in said
    assert all(f"  {name}: " in said for name in ("fp16_opt_level", "learning_rate", "per_device_train_batch_size"))


def parse(*words: str, kind: type = TrainingArguments) -> Any:
    parser = transformers.HfArgumentParser((kind,))
    (args,) = parser.parse_args_into_dataclasses([*words], look_for_args_file=False)
    return args


def test_the_command_line_of_transformers():
    args = parse(
        *("--output_dir", "out", "--learning-rate", "1e-4", "--fsdp", "--bf16_full_eval", "--use_cpu"),
        *("--lr_scheduler_kwargs", '{"min_lr": "0.5", "last": {"a": "true"}}', "--eval_strategy", "epoch"),
        *("--no_remove_unused_columns", "--non_finite", "skip", "--label_names", "a", "b", "--optim", "sgd"),
        *("--activation_checkpointing", "--report_to", "tensorboard", "--include_for_metrics", "inputs"),
    )
    assert args == TrainingArguments(
        "out",
        learning_rate=1e-4,
        fsdp=True,
        bf16_full_eval=True,
        use_cpu=True,
        lr_scheduler_kwargs={"min_lr": 0.5, "last": {"a": True}},
        eval_strategy="epoch",
        remove_unused_columns=False,
        non_finite="skip",
        label_names=["a", "b"],
        optim="sgd",
        activation_checkpointing=True,
        report_to=["tensorboard"],
        include_for_metrics=["inputs"],
    )


def test_a_command_line_without_words_gives_the_defaults():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse() == TrainingArguments()
        assert parse(kind=Seq2SeqTrainingArguments) == Seq2SeqTrainingArguments()
        assert "--no_cuda" in transformers.HfArgumentParser((TrainingArguments,)).format_help()


@pytest.mark.parametrize(
    ("words", "name", "meant"),
    [
        (["--evaluation_strategy", "epoch"], "eval_strategy", "epoch"),
        (["--warmup_ratio", "0.1"], "warmup_steps", 0.1),
        (["--no_cuda"], "use_cpu", True),
        (["--adafactor"], "optim", "adafactor"),
        (["--group_by_length"], "train_sampling_strategy", "group_by_length"),
        (["--per_gpu_train_batch_size", "2"], "per_device_train_batch_size", 2),
        (["--push_to_hub_model_id", "me/model"], "hub_model_id", "me/model"),
    ],
)
def test_old_names_on_a_command_line(words: list[str], name: str, meant: Any):
    with pytest.warns(FutureWarning, match=f"{words[0]} is an old spelling; write --{name}"):
        assert getattr(parse(*words), name) == meant


def test_only_an_old_flag_may_stand_alone():
    with pytest.raises(SystemExit):
        parse("--optim")


def test_a_dict_of_values():
    (args,) = transformers.HfArgumentParser((TrainingArguments,)).parse_dict({"output_dir": "out", "max_steps": 3})
    assert args == TrainingArguments("out", max_steps=3)
