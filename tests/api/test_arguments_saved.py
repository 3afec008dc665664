"""TrainingArguments as JSON, as copies, as subclasses, and from Transformers' own."""

import copy
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers

from instar.api.arguments import (
    ArgumentError,
    Seq2SeqTrainingArguments,
    TrainingArguments,
    from_transformers,
)

CASES: list[dict[str, Any]] = [
    {},
    {"eval_strategy": "steps", "save_strategy": "best", "metric_for_best_model": "f1", "learning_rate": 0.1 + 0.2},
    {"fsdp": True, "fsdp_config": {"cpu_offload": True}, "warmup_steps": 0.1, "report_to": ["wandb"]},
    {"deepspeed": {"zero_optimization": {"stage": 3}, "gradient_clipping": 0.5}, "lr_scheduler_kwargs": {"a": 1}},
    {"debug": "underflow_overflow", "include_for_metrics": ["inputs"], "use_cpu": True, "bf16": True},
    {"accelerator_config": {"split_batches": True}, "activation_checkpointing": True, "hub_model_id": "me/model"},
    {"parallelism_config": {"tp_size": 1}, "optim_target_modules": ["attn", "mlp"], "torch_compile": True},
]


@pytest.mark.parametrize("values", CASES, ids=lambda values: "-".join(values) or "defaults")
def test_what_is_written_is_read_back_equal(values: dict[str, Any], tmp_path: Path):
    args = TrainingArguments("out", **values)
    args.to_json_file(tmp_path / "training_args.json")
    assert TrainingArguments.from_json_file(tmp_path / "training_args.json") == args
    assert json.loads(args.to_json_string()) == args.to_dict()


@pytest.mark.parametrize("values", CASES, ids=lambda values: "-".join(values) or "defaults")
def test_replacing_and_copying_keep_the_rest(values: dict[str, Any]):
    args = TrainingArguments("out", **values)
    assert copy.deepcopy(args) == args
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replaced = dataclasses.replace(args, seed=7)
    assert replaced.seed == 7
    assert dataclasses.replace(replaced, seed=42) == args


def test_tokens_are_never_written(tmp_path: Path):
    args = TrainingArguments("out", hub_token="secret")
    args.to_json_file(tmp_path / "training_args.json")
    for text in (repr(args), str(args), args.to_json_string(), (tmp_path / "training_args.json").read_text()):
        assert "secret" not in text
        assert "HUB_TOKEN" in text
    assert TrainingArguments.from_json_file(tmp_path / "training_args.json").hub_token is None
    assert "secret" not in repr(WithMore("out", hub_token="secret")), "nor by a subclass that is a dataclass again"


def test_dicts_have_plain_values():
    args = Seq2SeqTrainingArguments("out", generation_config=transformers.GenerationConfig(max_length=3))
    values = args.to_dict()
    assert values["optim"] == "adamw_torch_fused"
    assert type(values["optim"]) is str
    assert values["accelerator_config"]["even_batches"] is True
    assert values["generation_config"]["max_length"] == 3
    flat = args.to_sanitized_dict()
    assert {type(value) for value in flat.values()} <= {bool, int, float, str}
    assert flat["train_batch_size"] == 8


@dataclasses.dataclass
class WithMore(TrainingArguments):
    """A subclass such as scripts define, with a field of their own and one that replaces ours."""

    alpha: float = dataclasses.field(default=0.5, metadata={"help": "a weight"})
    dtype: torch.dtype = torch.float32
    learning_rate: float = 1e-3
    logging_dir: str = "logs"
    run_name: int = 3
    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*TrainingArguments._VALID_DICT_FIELDS, "extra"]
    extra: dict[str, Any] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.is_set_up = True


def test_subclasses_of_users_work():
    with pytest.warns(FutureWarning, match="eval_strategy"):
        args = WithMore("out", evaluation_strategy="epoch", alpha=2.0, dtype=torch.bfloat16, extra='{"a": "1"}')
    assert (args.eval_strategy, args.alpha, args.learning_rate, args.is_set_up) == ("epoch", 2.0, 1e-3, True)
    assert args.extra == {"a": 1}
    assert args.to_dict()["dtype"] == "bfloat16"
    assert WithMore("out", logging_dir="here").logging_dir == "here", "their own field is no old spelling"
    with pytest.raises(TypeError, match="did you mean 'alpha'"):
        WithMore("out", alpa=1)
    with pytest.raises(ArgumentError, match=r"^WithMore: 1 fault"):
        WithMore("out", seed=-1)


def test_arguments_of_transformers_are_taken_over():
    theirs = transformers.Seq2SeqTrainingArguments(
        "out", learning_rate=0.25, eval_strategy="steps", eval_steps=5, predict_with_generate=True, report_to="none"
    )
    mine = from_transformers(theirs)
    assert type(mine) is Seq2SeqTrainingArguments
    assert mine == Seq2SeqTrainingArguments(
        "out", learning_rate=0.25, eval_strategy="steps", eval_steps=5, predict_with_generate=True
    )
    assert from_transformers(mine) is mine
    assert from_transformers(transformers.TrainingArguments("out")) == TrainingArguments("out")


@dataclasses.dataclass
class TheirsWithMore(transformers.TrainingArguments):
    alpha: float = 0.5


def test_what_a_subclass_of_theirs_adds_is_kept():
    mine = from_transformers(TheirsWithMore("out", alpha=0.75, weight_decay=0.5))
    assert (mine.alpha, mine.weight_decay) == (0.75, 0.5)
