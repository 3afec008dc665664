"""What values may be, alone and beside each other. Every check gives all of its faults."""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType

from instar.api.arguments.faults import Fault, wanted

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments

_AT_LEAST: dict[str, float] = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 0,
    "learning_rate": 0,
    "warmup_steps": 0,
    "weight_decay": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "label_smoothing_factor": 0,
    "neftune_noise_alpha": 0,
    "torch_empty_cache_steps": 1,
    "logging_steps": 0,
    "eval_steps": 0,
    "eval_delay": 0,
    "eval_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "ddp_bucket_cap_mb": 1,
    "ddp_timeout": 1,
    "seed": 0,
    "data_seed": 0,
    "max_tokens_per_batch": 1,
    "tensor_parallel_size": 1,
}
_BELOW: dict[str, float] = {"adam_beta1": 1, "adam_beta2": 1, "label_smoothing_factor": 1, "seed": 2**32}
_FOR_METRICS = ("inputs", "loss")
_COUNTED = ("all", "non_padding", "no")


def alone(arguments: "TrainingArguments") -> Iterator[Fault]:
    """Values out of their range."""
    for name, least in _AT_LEAST.items():
        value = getattr(arguments, name)
        below = _BELOW.get(name, math.inf)
        if value is not None and not least <= value < below:
            bound = f" and below {below:g}" if below != math.inf else ""
            yield Fault(name, wanted(f"at least {least:g}{bound}", value))
    decay = arguments.weight_average_decay
    if decay is not None and not 0 < decay < 1:
        yield Fault("weight_average_decay", wanted("above 0 and below 1", decay))
    if arguments.include_num_input_tokens_seen not in _COUNTED:
        yield Fault(
            "include_num_input_tokens_seen",
            wanted(f"one of {', '.join(_COUNTED)}, or a bool", arguments.include_num_input_tokens_seen, _COUNTED),
        )
    for extra in arguments.include_for_metrics or ():
        if extra not in _FOR_METRICS:
            yield Fault("include_for_metrics", wanted("inputs or loss", extra, _FOR_METRICS))


def together(arguments: "TrainingArguments") -> Iterator[Fault]:
    """Values that contradict each other, or this machine."""
    for check in _TOGETHER:
        yield from check(arguments)


def _steps(arguments: "TrainingArguments") -> Iterator[Fault]:
    for name, strategy in (
        ("logging", arguments.logging_strategy),
        ("eval", arguments.eval_strategy),
        ("save", arguments.save_strategy),
    ):
        field, every = f"{name}_steps", getattr(arguments, f"{name}_steps")
        if strategy != IntervalStrategy.STEPS or every is None:
            continue
        if every > 1 and every != int(every):
            yield Fault(field, wanted("a whole number of steps, or a share below 1", every))
        elif every > 1:
            setattr(arguments, field, int(every))
    if arguments.logging_strategy == IntervalStrategy.STEPS and arguments.logging_steps == 0:
        yield Fault("logging_steps", "wanted above 0, as logging_strategy is 'steps'; got 0; 'no' switches logging off")
    if arguments.eval_strategy == IntervalStrategy.STEPS and not arguments.eval_steps:
        yield Fault("eval_steps", "wanted above 0, as eval_strategy is 'steps', here or in logging_steps")
    warmup = arguments.warmup_steps
    if warmup > 1 and warmup != int(warmup):
        yield Fault("warmup_steps", wanted("a whole number of steps, or a share below 1", warmup))


def _best_model(arguments: "TrainingArguments") -> Iterator[Fault]:
    saves_best = arguments.save_strategy == SaveStrategy.BEST or arguments.save_best
    if arguments.save_best and arguments.eval_strategy == IntervalStrategy.NO:
        yield Fault("save_best", "needs evaluations to find the best; set eval_strategy")
    if not arguments.load_best_model_at_end or saves_best:
        return
    remedy = "; or set save_best=True, and evaluation and saving are free of each other"
    if arguments.eval_strategy != arguments.save_strategy:
        yield Fault(
            "load_best_model_at_end",
            f"wanted eval_strategy and save_strategy alike; got {arguments.eval_strategy.value!r} and "
            f"{arguments.save_strategy.value!r}{remedy}",
        )
    elif arguments.eval_strategy == IntervalStrategy.STEPS and arguments.eval_steps:
        yield from _best_steps(arguments.save_steps, arguments.eval_steps, remedy)


def _best_steps(save: float, evaluate: float, remedy: str) -> Iterator[Fault]:
    if (save < 1) != (evaluate < 1):
        yield Fault(
            "load_best_model_at_end",
            f"wanted save_steps a multiple of eval_steps; got a share of all steps beside a number of steps, "
            f"{save} and {evaluate}{remedy}",
        )
        return
    times = save / evaluate
    if not math.isclose(times, round(times), rel_tol=1e-9, abs_tol=1e-9):
        yield Fault(
            "load_best_model_at_end",
            f"wanted save_steps a round multiple of eval_steps; got {save} and {evaluate}{remedy}",
        )


def _precision(arguments: "TrainingArguments") -> Iterator[Fault]:
    if arguments.fp16 and arguments.bf16:
        yield Fault("fp16, bf16", "wanted one of them; got both")
    if arguments.fp16_full_eval and arguments.bf16_full_eval:
        yield Fault("fp16_full_eval, bf16_full_eval", "wanted one of them; got both")
    needs_gpu = [name for name in ("bf16", "bf16_full_eval") if getattr(arguments, name)]
    if needs_gpu and not arguments.use_cpu and not has_bf16():
        yield Fault(
            ", ".join(needs_gpu), "this machine has no GPU with bfloat16; set use_cpu=True to use it on the CPU"
        )
    if arguments.tf32 and not has_tf32():
        yield Fault("tf32", "wanted a GPU that has TF32 (Ampere or newer); there is none here")


def _evaluation(arguments: "TrainingArguments") -> Iterator[Fault]:
    needs = (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY)
    if arguments.lr_scheduler_type in needs and arguments.eval_strategy == IntervalStrategy.NO:
        yield Fault(
            "lr_scheduler_type", f"{arguments.lr_scheduler_type.value} follows the evaluation metric; set eval_strategy"
        )


def _workers(arguments: "TrainingArguments") -> Iterator[Fault]:
    if arguments.dataloader_num_workers:
        return
    if arguments.dataloader_prefetch_factor is not None:
        yield Fault("dataloader_prefetch_factor", "is for worker processes; set dataloader_num_workers above 0")
    if arguments.dataloader_persistent_workers:
        yield Fault("dataloader_persistent_workers", "is for worker processes; set dataloader_num_workers above 0")


def _sharding(arguments: "TrainingArguments") -> Iterator[Fault]:
    if arguments.fsdp and arguments.deepspeed:
        yield Fault("fsdp, deepspeed", "wanted one of them; got both")


_TOGETHER: tuple[Callable[["TrainingArguments"], Iterator[Fault]], ...] = (
    _steps,
    _best_model,
    _precision,
    _evaluation,
    _workers,
    _sharding,
)


def has_bf16() -> bool:
    """Whether an accelerator here computes in bfloat16."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    if torch.xpu.is_available():
        return bool(torch.xpu.is_bf16_supported())
    return torch.backends.mps.is_available() and torch.backends.mps.is_macos_or_newer(14, 0)


def has_tf32() -> bool:
    """Whether an NVIDIA GPU here has TF32."""
    import torch

    return torch.cuda.is_available() and torch.cuda.get_device_properties(torch.cuda.current_device()).major >= 8
