"""Old spellings of arguments: names that earlier versions of Transformers took.

Each is accepted, said once to be old with what to write now, and means what it meant. One that asked for
something that exists no more is refused when it asks for it, and harmless when it does not.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instar.api.arguments.faults import Fault

Values = dict[str, Any]


@dataclass(frozen=True)
class Spelling:
    """What one old name becomes."""

    now: str
    """What to write instead, or why there is nothing to write; the documentation shows it."""
    becomes: Callable[[Any], Values] = lambda _: {}
    """The new values for the old one."""
    unset: tuple[Any, ...] = (None, False)
    """Old values that ask for nothing."""
    refused: str = ""
    """Why any other value cannot be honoured; empty where it can."""
    is_kept: bool = False
    """Whether the value stays on the instance under its old name, for the part that reads it there."""


def _renamed(new: str, *unset: Any) -> Spelling:
    return Spelling(f"`{new}`", lambda value: {new: value}, unset=unset)


def _flag(new: str, value: Any) -> Spelling:
    return Spelling(f"`{new}={value!r}`", lambda _: {new: value})


def _needless(why: str) -> Spelling:
    return Spelling(f"nothing: {why}")


def _gone(why: str, *unset: Any) -> Spelling:
    return Spelling("nothing", refused=why, unset=(None, False, *unset))


_APEX = "apex is not used; bf16 and fp16 run on PyTorch's own autocast"
_AMP = ("auto", "amp", "cuda_amp", "cpu_amp")

SPELLINGS: Mapping[str, Spelling] = {
    "evaluation_strategy": _renamed("eval_strategy"),
    "evaluate_during_training": _flag("eval_strategy", "steps"),
    "warmup_ratio": _renamed("warmup_steps", None, 0, 0.0),
    "group_by_length": _flag("train_sampling_strategy", "group_by_length"),
    "no_cuda": _renamed("use_cpu"),
    "use_mps_device": _needless("an Apple GPU is used where there is one"),
    "per_gpu_train_batch_size": _renamed("per_device_train_batch_size", None),
    "per_gpu_eval_batch_size": _renamed("per_device_eval_batch_size", None),
    "adafactor": _flag("optim", "adafactor"),
    "include_inputs_for_metrics": _flag("include_for_metrics", ["inputs"]),
    "include_tokens_per_second": _flag("include_num_input_tokens_seen", "all"),
    "push_to_hub_model_id": _renamed("hub_model_id", None),
    "push_to_hub_organization": Spelling("`hub_model_id='organization/name'`"),
    "push_to_hub_token": _renamed("hub_token", None),
    "torchdynamo": _renamed("torch_compile_backend", None),
    "xpu_backend": _renamed("ddp_backend", None),
    "fsdp_min_num_params": Spelling(
        "`fsdp_config={'min_num_params': ...}`",
        lambda count: {"fsdp_config": {"min_num_params": count, "auto_wrap_policy": "SIZE_BASED_WRAP"}},
        unset=(None, 0),
    ),
    "fsdp_transformer_layer_cls_to_wrap": Spelling(
        "`fsdp_config={'transformer_layer_cls_to_wrap': [...]}`",
        lambda name: {"fsdp_config": {"transformer_layer_cls_to_wrap": [name] if isinstance(name, str) else name}},
    ),
    "split_batches": Spelling(
        "`accelerator_config={'split_batches': ...}`", lambda is_on: {"accelerator_config": {"split_batches": is_on}}
    ),
    "dispatch_batches": Spelling(
        "`accelerator_config={'dispatch_batches': ...}`",
        lambda is_on: {"accelerator_config": {"dispatch_batches": is_on}},
    ),
    "logging_dir": Spelling("`TENSORBOARD_LOGGING_DIR` in the environment", is_kept=True),
    "ray_scope": Spelling("`RAY_SCOPE` in the environment", unset=(None, "last"), is_kept=True),
    "overwrite_output_dir": _needless("a run writes beside what is there, and resumes only when asked"),
    "save_safetensors": Spelling(
        "nothing: weights are always saved as safetensors",
        unset=(None, True),
        refused="weights are saved as safetensors only, which every reader of the other format reads",
    ),
    "use_legacy_prediction_loop": _needless("there is one evaluation loop"),
    "tpu_metrics_debug": _gone("instar runs on CPUs and GPUs, not on TPUs"),
    "tpu_num_cores": _gone("instar runs on CPUs and GPUs, not on TPUs"),
    "mp_parameters": _gone("SageMaker's model parallelism is not used; see tensor_parallel_size and fsdp", ""),
    "sharded_ddp": _gone("FairScale is not used; write fsdp=True", "", []),
    "jit_mode_eval": _gone("torch.jit is not used; write torch_compile=True"),
    "use_ipex": _gone("the Intel extension is not used; write torch_compile=True"),
    "past_index": _gone("memory that a model hands from batch to batch is not carried over", -1),
    "fp16_backend": _gone(_APEX, *_AMP),
    "half_precision_backend": _gone(_APEX, *_AMP),
    "fp16_opt_level": _gone(_APEX, "O1"),
    "_n_gpu": _needless("it is counted"),
}


@dataclass
class Reading:
    """Keyword arguments in today's spelling."""

    values: Values
    kept: Values = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read(given: Mapping[str, Any], accepted: Collection[str], folder: Any, *, stacklevel: int) -> Reading:
    """Today's spelling of keyword arguments; names that the class itself takes are never old to it.

    `folder` is the output folder, after which a repository is named where nothing else names it.
    """
    old = {name: value for name, value in given.items() if name in SPELLINGS and name not in accepted}
    reading = Reading({name: value for name, value in given.items() if name not in old})
    for name, value in old.items():
        _read_one(name, value, reading, stacklevel=stacklevel + 1)
    organization = old.get("push_to_hub_organization")
    if organization:
        named = reading.values.get("hub_model_id") or Path(folder or "trainer_output").name
        reading.values["hub_model_id"] = named if "/" in named else f"{organization}/{named}"
    return reading


def _read_one(name: str, value: Any, reading: Reading, *, stacklevel: int) -> None:
    spelling = SPELLINGS[name]
    is_unset = any(value is empty or value == empty for empty in spelling.unset)
    if not is_unset and spelling.refused:
        reading.faults.append(Fault(name, f"{spelling.refused}; got {value!r}"))
        return
    becomes = {} if is_unset else spelling.becomes(value)
    now = " and ".join(f"{new}={shown!r}" for new, shown in becomes.items() if not new.endswith("token"))
    warnings.warn(
        f"{name} is an old spelling; write {now or spelling.now.replace('`', '')}",
        FutureWarning,
        stacklevel=stacklevel + 1,
    )
    if spelling.is_kept and value is not None:
        reading.kept[name] = value
    for new, meant in becomes.items():
        _merge(name, new, meant, reading)


def _merge(old: str, new: str, meant: Any, reading: Reading) -> None:
    given = reading.values.get(new)
    if given is None or given == meant:
        reading.values[new] = meant
    elif isinstance(given, dict) and isinstance(meant, dict):
        reading.values[new] = {**meant, **given}
    elif isinstance(given, list) and isinstance(meant, list):
        reading.values[new] = [*given, *(entry for entry in meant if entry not in given)]
    elif not (new == "warmup_steps" and given == 0):
        reading.faults.append(Fault(old, f"means {new}={meant!r}, and {new}={given!r} is given as well; keep one"))
    else:
        reading.values[new] = meant
