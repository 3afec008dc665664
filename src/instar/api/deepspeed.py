"""A DeepSpeed configuration, honoured by its meaning: what it asks for, done by PyTorch's FSDP2 and our own parts.

Every mapping is said once in the log. A key that has no equivalent is refused with the reason, all of them together.
`"auto"` leaves a value to the arguments; a value that contradicts one that the arguments were given is a fault.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instar.api.arguments.faults import Fault, guess, shown, wanted

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments

AUTO = "auto"

_OPTIMIZERS = {
    "adam": "adamw_torch_fused",
    "adamw": "adamw_torch_fused",
    "fusedadam": "adamw_torch_fused",
    "deepspeedcpuadam": "adamw_torch_fused",
    "adagrad": "adagrad",
    "deepspeedcpuadagrad": "adagrad",
    "sgd": "sgd",
    "lion": "lion_32bit",
    "fusedlion": "lion_32bit",
    "muon": "muon",
}
_SCHEDULES = {
    "WarmupLR": "constant_with_warmup",
    "WarmupDecayLR": "linear",
    "WarmupCosineLR": "cosine_with_min_lr",
}
_ENGINE = (
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "elastic_checkpoint",
    "ignore_unused_parameters",
    "legacy_stage1",
    "load_from_fp32_weights",
    "memory_efficient_linear",
    "overlap_comm",
    "param_persistence_threshold",
    "pipeline_loading_checkpoint",
    "prefetch_bucket_size",
    "reduce_bucket_size",
    "reduce_scatter",
    "round_robin_gradients",
    "stage3_gather_16bit_weights_on_model_save",
    "stage3_gather_fp16_weights_on_model_save",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_param_persistence_threshold",
    "stage3_prefetch_bucket_size",
    "sub_group_size",
    "use_multi_rank_bucket_allreduce",
)
"""Keys of `zero_optimization` that set sizes and order of DeepSpeed's own exchanges."""
_ZERO_PLUS = (
    "mics_hierarchical_params_gather",
    "mics_shard_size",
    "zero_hpz_partition_size",
    "zero_quantized_gradients",
    "zero_quantized_nontrainable_weights",
    "zero_quantized_weights",
)
_PRINTED = ("steps_per_print", "wall_clock_breakdown", "memory_breakdown", "dump_state", "verbose")
_SCALING = ("initial_scale_power", "loss_scale_window", "hysteresis", "consecutive_hysteresis", "min_loss_scale")
_IGNORABLE = ("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer", "aio", "checkpoint", "nebula")
_REFUSED = {
    "amp": "apex is not used; write fp16 or bf16",
    "autotuning": "there is nothing of DeepSpeed to tune",
    "comms_logger": "DeepSpeed's exchanges are not used",
    "communication_data_type": "gradients are added up in their own type",
    "compression_training": "it is not supported",
    "csv_monitor": "write a callback, or report_to='tensorboard'",
    "curriculum_learning": "order the data in the training set",
    "data_efficiency": "order the data in the training set",
    "eigenvalue": "it is not supported",
    "elasticity": "torchrun restarts a run with the processes that are left",
    "flops_profiler": "use torch.profiler in a callback",
    "hybrid_engine": "it is not supported",
    "monitor_config": "write report_to",
    "pipeline": "a model is split by fsdp and tensor_parallel_size, not into a pipeline",
    "prescale_gradients": "gradients are added up first and divided once",
    "progressive_layer_drop": "it is not supported",
    "quantize_training": "it is not supported",
    "sequence_parallel_size": "sequence parallel is not supported",
    "sparse_attention": "choose the attention of the model",
    "sparse_gradients": "gradients are exchanged dense",
}


@dataclass
class DeepSpeedPlan:
    """What a DeepSpeed configuration means here; `zero_stage` 0 is DDP, 1 to 3 are FSDP2."""

    zero_stage: int = 0
    is_offloaded: bool = False
    tp: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    """Arguments that the configuration decides, by field."""
    said: list[str] = field(default_factory=list)
    """One line for each mapping."""
    faults: list[Fault] = field(default_factory=list)


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
    top = _Block("deepspeed", config, plan, arguments)
    for rule in _RULES:
        rule(top)
    top.end(_REFUSED)
    return plan


class _Block:
    """A mapping of the configuration whose keys are taken one by one; those that are left have no equivalent."""

    def __init__(
        self, path: str, values: Mapping[str, Any], plan: DeepSpeedPlan, arguments: "TrainingArguments"
    ) -> None:
        self.path, self.plan, self.arguments = path, plan, arguments
        self._left = dict(values)
        self._known: list[str] = []

    def take(self, key: str) -> Any:
        """The value of a key, None where it is absent or null."""
        self._known.append(key)
        return self._left.pop(key, None)

    def block(self, key: str) -> "_Block":
        """The mapping under a key, empty where there is none."""
        value = self.take(key)
        if value is not None and not isinstance(value, Mapping):
            self.fault(key, wanted("a mapping", value))
            value = None
        return _Block(f"{self.path}.{key}", value or {}, self.plan, self.arguments)

    def decide(self, key: str, name: str, value: Any) -> None:
        """Let the configuration decide an argument, unless the arguments were given something else."""
        if value is None or value == AUTO:
            return
        now = self.arguments.__dict__[name]
        if now == value:
            return
        if now != _default(self.arguments, name):
            text = f"is {value!r}, and {name}={now!r} is given as well; write 'auto' here, or make them equal"
            self.fault(key, text)
            return
        self.plan.values[name] = value
        self.say(key, f"{name}={value!r}")

    def say(self, key: str, means: str) -> None:
        """One line of the log for one mapping."""
        self.plan.said.append(f"{self.path}.{key} means {means}")

    def fault(self, key: str, text: str) -> None:
        self.plan.faults.append(Fault(f"{self.path}.{key}", text))

    def skip(self, keys: tuple[str, ...], why: str) -> None:
        """Keys that ask for nothing that instar does not do in any case."""
        found = [key for key in keys if self.take(key) not in (None, AUTO)]
        if found:
            self.plan.said.append(f"{self.path}: {', '.join(found)}: {why}")

    def end(self, reasons: Mapping[str, str] | None = None) -> None:
        """Refuse what is left and asks for something."""
        reasons = reasons or {}
        for key, value in self._left.items():
            if key in reasons and not _asks(value):
                continue
            known = [*self._known, *reasons]
            self.fault(key, f"{reasons.get(key) or 'has no equivalent' + guess(key, known)}; got {shown(value)}")


def _asks(value: Any) -> bool:
    """Whether a value switches something on."""
    if isinstance(value, Mapping):
        return bool(value.get("enabled", bool(value)))
    return value is True or value not in (None, False, -1, 0, 1, "", AUTO)


def _default(arguments: Any, name: str) -> Any:
    found = {entry.name: entry.default for entry in fields(arguments)}.get(name, MISSING)
    return None if found is MISSING else found


def _zero(top: _Block) -> None:
    block = top.block("zero_optimization")
    stage = block.take("stage")
    if stage is None:
        stage = 0
    if stage not in (0, 1, 2, 3):
        block.fault("stage", wanted("0, 1, 2 or 3", stage))
        return
    top.plan.zero_stage = stage
    means = ("every process holds the model (DDP)", "FSDP2 that keeps gathered weights", "", "FSDP2")
    block.say("stage", f"{stage}: {means[stage] or means[1]}")
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
    block.skip(_ENGINE, "FSDP2 chooses sizes and order of its exchanges itself, and saves whole weights")
    block.end(dict.fromkeys(_ZERO_PLUS, "it is not supported; FSDP2 gathers and adds up in the types it computes in"))


def _sizes(top: _Block) -> None:
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


def _precision(top: _Block) -> None:
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
            block.skip(_SCALING, "PyTorch's GradScaler starts at 65536, doubles and halves")
        block.end({"immediate_grad_update": "", "check_grad_overflow": "", "fp16_master_weights_and_grads": ""})
    block = top.block("torch_autocast")
    if block.take("enabled"):
        dtype = str(block.take("dtype")).removeprefix("torch.")
        block.decide("dtype", {"float16": "fp16", "half": "fp16"}.get(dtype, "bf16"), value=True)
    types = top.block("data_types")
    if types.take("grad_accum_dtype") not in (None, "fp32", AUTO):
        types.fault("grad_accum_dtype", "gradients are summed in float32; leave it out")
    types.end()


def _optimizer(top: _Block) -> None:
    block = top.block("optimizer")
    kind = block.take("type")
    params = block.block("params")
    if kind is None:
        return
    name = _OPTIMIZERS.get(str(kind).lower())
    if name is None:
        block.fault("type", wanted(f"one of {', '.join(_OPTIMIZERS)}", kind, _OPTIMIZERS))
        return
    if not (name.startswith("adamw_torch") and str(top.arguments.optim).startswith("adamw_torch")):
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


def _scheduler(top: _Block) -> None:
    block = top.block("scheduler")
    kind = block.take("type")
    params = block.block("params")
    if kind is None:
        return
    if kind not in _SCHEDULES:
        block.fault("type", wanted(f"one of {', '.join(_SCHEDULES)}", kind, _SCHEDULES))
        return
    block.decide("type", "lr_scheduler_type", _SCHEDULES[kind])
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


def _rest(top: _Block) -> None:
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
    block.end(dict.fromkeys(_CHECKPOINTING, "write activation_checkpointing in the arguments"))
    if top.take("gradient_predivide_factor") not in (None, 1, AUTO):
        top.fault("gradient_predivide_factor", "gradients are added up first and divided once")
    top.skip(_PRINTED, "the log follows logging_steps")
    top.skip(_IGNORABLE, "DeepSpeed's own parts are not used")


def _tracker(name: str, block: _Block) -> None:
    given = block.arguments.report_to
    trackers = [] if given in (None, "none", ["none"]) else [given] if isinstance(given, str) else list(given)
    if block.take("enabled") and name not in trackers and "all" not in trackers:
        block.plan.values["report_to"] = [*block.plan.values.get("report_to", trackers), name]
        block.say("enabled", f"report_to=['{name}']")
    block.skip(("output_path", "job_name", "group", "team", "project"), "the tracker's own settings decide")
    block.end()


_CHECKPOINTING = (
    "partition_activations",
    "cpu_checkpointing",
    "contiguous_memory_optimization",
    "number_checkpoints",
    "synchronize_checkpoint_boundary",
    "profile",
)
_RULES: tuple[Callable[[_Block], None], ...] = (_rest, _zero, _sizes, _precision, _optimizer, _scheduler)


def apply(arguments: "TrainingArguments") -> Iterator[Fault]:
    """Take a configuration up into the arguments, and say what it means; its faults where it has some."""
    from instar.api.arguments.parallelism import say_once

    plan = read(arguments.deepspeed, arguments)
    arguments.deepspeed_plugin = plan
    yield from plan.faults
    if plan.faults:
        return
    for name, value in plan.values.items():
        setattr(arguments, name, value)
    for line in plan.said:
        say_once(line)
