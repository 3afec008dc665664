"""What each block of a DeepSpeed configuration means here."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.api.arguments.faults import Fault, shown, wanted
from instar.api.deepspeed.keys import (
    CHECKPOINTING,
    ENGINE,
    IGNORABLE,
    OPTIMIZERS,
    PRINTED,
    REFUSED,
    SCALING,
    SCHEDULES,
    ZERO_PLUS,
)
from instar.api.deepspeed.plan import AUTO, Block, DeepSpeedPlan

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments


def read(given: Any, arguments: "TrainingArguments") -> DeepSpeedPlan:
    """The plan of a mapping, or of a JSON file; its `faults` are everything that is wrong with it."""
    plan = DeepSpeedPlan()
    try:
        config = json.loads(Path(given).read_text(encoding="utf-8")) if isinstance(given, str | os.PathLike) else given
    except (OSError, ValueError) as error:
        plan.faults.append(Fault("deepspeed", f"wanted a dict or a JSON file; got {shown(given)}: {error}"))
        return plan
    if not isinstance(config, Mapping):
        plan.faults.append(Fault("deepspeed", wanted("a dict or a JSON file", config)))
        return plan
    top = Block("deepspeed", config, plan, arguments)
    for rule in _RULES:
        rule(top)
    top.end(REFUSED)
    return plan


def _zero(top: Block) -> None:
    block = top.block("zero_optimization")
    stage = block.take("stage")
    if stage is None:
        stage = 0
    if stage not in (0, 1, 2, 3):
        block.fault("stage", wanted("0, 1, 2 or 3", stage))
        return
    top.plan.zero_stage = stage
    kept = "FSDP2 that keeps gathered weights until the backward pass"
    means = ("every process holds the model (DDP)", kept, kept, "FSDP2")
    block.say("stage", f"{stage}: {means[stage]}")
    for key in ("offload_optimizer", "offload_param"):
        inner = block.block(key)
        device = inner.take("device")
        if device == "nvme":
            inner.fault("device", "nothing is offloaded to NVMe; write cpu")
        elif device == "cpu":
            top.plan.is_offloaded = True
            block.say(key, "cpu_offload: FSDP2 keeps weights, gradients and optimizer state on the CPU together")
        elif device not in (None, "none"):
            inner.fault("device", wanted("cpu or none", device))
        sizes = ("pin_memory", "buffer_count", "buffer_size", "max_in_cpu", "fast_init", "nvme_path", "ratio")
        inner.skip((*sizes, "pipeline_read", "pipeline_write"), "FSDP2 sizes its own buffers")
        inner.end()
    for key in ("cpu_offload", "cpu_offload_params"):
        if block.take(key) is True:
            top.plan.is_offloaded = True
            block.say(key, "cpu_offload of FSDP2")
    if top.plan.is_offloaded and stage == 0:
        block.fault("offload_optimizer", "needs stage 1, 2 or 3")
    block.skip(ENGINE, "FSDP2 chooses sizes and order of its exchanges itself, and saves whole weights")
    block.end(dict.fromkeys(ZERO_PLUS, "it is not supported; FSDP2 gathers and adds up in the types it computes in"))


def _sizes(top: Block) -> None:
    micro, total = top.take("train_micro_batch_size_per_gpu"), top.take("train_batch_size")
    steps = top.take("gradient_accumulation_steps")
    world = max(1, top.arguments.world_size // top.plan.tp)
    given_steps = steps if isinstance(steps, int) else top.arguments.gradient_accumulation_steps
    if isinstance(total, int) and micro is None:
        micro = total // (world * given_steps)
    elif isinstance(total, int) and isinstance(micro, int) and micro > 0 and steps is None:
        steps = total // (world * micro)
    top.decide("train_micro_batch_size_per_gpu", "per_device_train_batch_size", micro)
    top.decide("gradient_accumulation_steps", "gradient_accumulation_steps", steps)
    if isinstance(total, int):
        micro = micro if isinstance(micro, int) else top.arguments.per_device_train_batch_size
        steps = steps if isinstance(steps, int) else top.arguments.gradient_accumulation_steps
        if total != micro * steps * world:
            top.fault(
                "train_batch_size",
                f"wanted {micro} (per_device_train_batch_size) x {steps} (gradient_accumulation_steps) x {world} "
                f"(processes) = {micro * steps * world}; got {total}",
            )
    top.decide("gradient_clipping", "max_grad_norm", _number(top.take("gradient_clipping")))


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _precision(top: Block) -> None:
    for key, name in (("fp16", "fp16"), ("bf16", "bf16"), ("bfloat16", "bf16")):
        block = top.block(key)
        enabled = block.take("enabled")
        if enabled is True:
            block.decide("enabled", name, value=True)
        elif enabled is False and getattr(top.arguments, name):
            block.fault("enabled", f"is false, and {name}=True is given as well; write 'auto' here")
        if name == "fp16":
            if block.take("loss_scale") not in (None, 0, AUTO):
                block.fault("loss_scale", "the loss is scaled by what the gradients allow; write 0")
            if block.take("auto_cast"):
                block.say("auto_cast", "PyTorch's autocast, as ever")
            block.skip(SCALING, "PyTorch's GradScaler starts at 65536, doubles and halves")
        block.end({"immediate_grad_update": "", "check_grad_overflow": "", "fp16_master_weights_and_grads": ""})
    block = top.block("torch_autocast")
    if block.take("enabled"):
        dtype = str(block.take("dtype")).removeprefix("torch.")
        block.decide("dtype", {"float16": "fp16", "half": "fp16"}.get(dtype, "bf16"), value=True)
    types = top.block("data_types")
    if types.take("grad_accum_dtype") not in (None, "fp32", AUTO):
        types.fault("grad_accum_dtype", "gradients are summed in float32; leave it out")
    types.end()


def _optimizer(top: Block) -> None:
    block = top.block("optimizer")
    kind = block.take("type")
    params = block.block("params")
    if kind is None:
        return
    name = OPTIMIZERS.get(str(kind).lower())
    if name is None:
        block.fault("type", wanted(f"one of {', '.join(OPTIMIZERS)}", kind, OPTIMIZERS))
        return
    if not (name.startswith("adamw_torch") and top.arguments.optim.startswith("adamw_torch")):
        block.decide("type", "optim", name)
    params.decide("lr", "learning_rate", params.take("lr"))
    params.decide("eps", "adam_epsilon", params.take("eps"))
    params.decide("weight_decay", "weight_decay", _number(params.take("weight_decay")))
    betas = params.take("betas")
    if isinstance(betas, list | tuple) and len(betas) == 2:
        params.decide("betas", "adam_beta1", betas[0])
        params.decide("betas", "adam_beta2", betas[1])
    elif betas not in (None, AUTO):
        params.fault("betas", wanted("two numbers", betas))
    if params.take("adam_w_mode") is False:
        params.fault("adam_w_mode", "weight decay is decoupled from the gradient (AdamW); leave it out")
    params.skip(("torch_adam", "bias_correction", "fused"), "PyTorch's AdamW is used")
    params.end()
    block.end({"legacy_fusion": ""})


def _scheduler(top: Block) -> None:
    block = top.block("scheduler")
    kind = block.take("type")
    params = block.block("params")
    if kind is None:
        return
    if kind not in SCHEDULES:
        block.fault("type", wanted(f"one of {', '.join(SCHEDULES)}", kind, SCHEDULES))
        return
    block.decide("type", "lr_scheduler_type", SCHEDULES[kind])
    params.decide("warmup_max_lr", "learning_rate", params.take("warmup_max_lr"))
    params.decide("warmup_num_steps", "warmup_steps", params.take("warmup_num_steps"))
    for key in ("warmup_min_lr", "warmup_min_ratio"):
        if params.take(key) not in (None, AUTO, 0):
            params.fault(key, "the warm-up starts at 0; write 0 or 'auto'")
    shape = params.take("warmup_type")
    if shape not in (None, AUTO, "linear"):
        params.fault("warmup_type", wanted("linear", shape))
    elif shape is None:
        params.say("warmup_type", "a linear warm-up")
    total = params.take("total_num_steps")
    if total not in (None, AUTO, top.arguments.max_steps):
        params.fault("total_num_steps", f"the schedule spans the run; write 'auto', or max_steps={total} as well")
    floor = params.take("cos_min_ratio")
    if kind == "WarmupCosineLR":
        params.decide("cos_min_ratio", "lr_scheduler_kwargs", {"min_lr_rate": 0.0001 if floor is None else floor})
    params.end()
    block.end()


def _rest(top: Block) -> None:
    block = top.block("tensor_parallel")
    top.plan.tp = block.take("autotp_size") or 1
    if top.plan.tp > 1:
        block.say("autotp_size", f"tensor_parallel_size={top.plan.tp}")
    block.end()
    for tracker in ("tensorboard", "wandb"):
        _tracker(tracker, top.block(tracker))
    block = top.block("compile")
    if block.take("enabled") or block.take("deepcompile"):
        block.decide("enabled", "torch_compile", value=True)
    block.end()
    block = top.block("activation_checkpointing")
    block.end(dict.fromkeys(CHECKPOINTING, "write activation_checkpointing in the arguments"))
    if top.take("gradient_predivide_factor") not in (None, 1, AUTO):
        top.fault("gradient_predivide_factor", "gradients are added up first and divided once")
    top.skip(PRINTED, "the log follows logging_steps")
    top.skip(IGNORABLE, "DeepSpeed's own parts are not used")


def _tracker(name: str, block: Block) -> None:
    given: Any = block.arguments.report_to
    trackers = [] if given in (None, "none", ["none"]) else [given] if isinstance(given, str) else list(given)
    if block.take("enabled") and name not in trackers and "all" not in trackers:
        block.plan.values["report_to"] = [*block.plan.values.get("report_to", trackers), name]
        block.say("enabled", f"report_to=['{name}']")
    block.skip(("output_path", "job_name", "group", "team", "project"), "the tracker's own settings decide")
    block.end()


_RULES: tuple[Callable[[Block], None], ...] = (_rest, _zero, _sizes, _precision, _optimizer, _scheduler)


def apply(config: Any, arguments: "TrainingArguments") -> Iterator[Fault]:
    """Take a configuration up into the arguments, and say what it means; its faults where it has some."""
    from instar.api.arguments.parallelism import say_once

    plan = read(config, arguments)
    arguments.deepspeed_plugin = plan
    yield from plan.faults
    if plan.faults:
        return
    for name, value in plan.values.items():
        setattr(arguments, name, value)
    for line in plan.said:
        say_once(line)
