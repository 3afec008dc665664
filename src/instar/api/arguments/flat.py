"""`TrainingArguments`: the themes joined into one flat dataclass, completed and checked when it is made."""

import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from instar.api.arguments import checks, kinds, parallelism, refused
from instar.api.arguments.accelerator import AcceleratorConfig
from instar.api.arguments.choices import DebugOption, IntervalStrategy, SchedulerType
from instar.api.arguments.devices import Devices
from instar.api.arguments.distributed import DistributedArguments, ShardingArguments
from instar.api.arguments.duration import DurationArguments, OutputArguments, ScheduleArguments
from instar.api.arguments.evaluation import EvaluationArguments, MetricArguments
from instar.api.arguments.faults import ArgumentError, Fault
from instar.api.arguments.hardware import HardwareArguments, ReproducibilityArguments
from instar.api.arguments.launcher import launched_deepspeed
from instar.api.arguments.loading import DataLoaderArguments
from instar.api.arguments.memory import ActivationArguments, CompileArguments, FootprintArguments, PrecisionArguments
from instar.api.arguments.monitoring import LoggingArguments, TrackingArguments
from instar.api.arguments.naming import Named
from instar.api.arguments.optimizer import OptimizerArguments, StabilityArguments
from instar.api.arguments.own import InstarArguments
from instar.api.arguments.saving import BestModelArguments, HubArguments, ResumeArguments, SavingArguments
from instar.api.arguments.scripts import DebugArguments, ScriptArguments
from instar.api.arguments.setters import Setters
from instar.api.arguments.written import Written

if TYPE_CHECKING:
    from instar.api.deepspeed import DeepSpeedPlan


@dataclass(repr=False)
class TrainingArguments(
    InstarArguments,  # dataclass fields are those of the last base first
    ScriptArguments,
    DebugArguments,
    ShardingArguments,
    DistributedArguments,
    DataLoaderArguments,
    HardwareArguments,
    ReproducibilityArguments,
    ResumeArguments,
    BestModelArguments,
    HubArguments,
    SavingArguments,
    MetricArguments,
    EvaluationArguments,
    TrackingArguments,
    LoggingArguments,
    FootprintArguments,
    CompileArguments,
    ActivationArguments,
    PrecisionArguments,
    StabilityArguments,
    OptimizerArguments,
    ScheduleArguments,
    DurationArguments,
    OutputArguments,
    Devices,
    Setters,
    Written,
    metaclass=Named,
):
    """Every argument of a training run: names, defaults and order of `transformers.TrainingArguments`, and ours.

    Making one checks it: ArgumentError (a ValueError) lists all faults together; TypeError all unknown names.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = list(kinds.DICT_FIELDS)
    default_optim: ClassVar[str] = "adamw_torch_fused"
    """The value of `optim` where none is given."""

    def __post_init__(self) -> None:
        faults = [*kinds.parse_mappings(self)]
        self._resolve_aliases()
        faults += [*kinds.check(self, TrainingArguments), *self._read_debug(), *self._read_accelerator()]
        if faults:
            raise ArgumentError(type(self).__name__, faults)
        faults = [*parallelism.normalise(self), *self._read_deepspeed()]
        self._derive()
        faults += [*checks.alone(self), *checks.together(self), *refused.check(self), *parallelism.check_sizes(self)]
        if faults:
            raise ArgumentError(type(self).__name__, faults)
        self._prepare()

    def _resolve_aliases(self) -> None:
        for old in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
            new = old.replace("gradient", "activation")
            if getattr(self, new) is None and getattr(self, old) is not None:
                warnings.warn(f"{old} is an old spelling; write {new}", FutureWarning, stacklevel=5)
                setattr(self, new, getattr(self, old))
            setattr(self, old, getattr(self, new))
        if self.activation_checkpointing is None:
            self.activation_checkpointing = self.gradient_checkpointing = False

    def _read_debug(self) -> Iterator[Fault]:
        given = self.debug.split() if isinstance(self.debug, str) else self.debug or []
        try:
            self.debug = [DebugOption(option) for option in given]
        except ValueError as error:
            yield Fault("debug", str(error))

    def _read_accelerator(self) -> Iterator[Fault]:
        try:
            self.accelerator_config = AcceleratorConfig.read(self.accelerator_config)
        except (ValueError, TypeError, OSError) as error:
            yield Fault("accelerator_config", str(error))

    def _read_deepspeed(self) -> Iterator[Fault]:
        self.deepspeed_plugin: DeepSpeedPlan | None = None
        config = self.deepspeed or launched_deepspeed()
        if config:
            from instar.api import deepspeed

            yield from deepspeed.apply(config, self)
            yield from kinds.check(self, TrainingArguments)

    def _derive(self) -> None:
        """Fill in what follows from other values."""
        self.output_dir = os.path.expanduser(self.output_dir or "trainer_output")  # noqa: PTH111
        if self.disable_tqdm is None:
            self.disable_tqdm = logging.getLogger("transformers").getEffectiveLevel() > logging.WARNING
        if isinstance(self.include_num_input_tokens_seen, bool):
            self.include_num_input_tokens_seen = "all" if self.include_num_input_tokens_seen else "no"
        if self.eval_strategy != IntervalStrategy.NO:
            self.do_eval = True
        if self.eval_strategy == IntervalStrategy.STEPS and not self.eval_steps:
            self.eval_steps = self.logging_steps
        follows_metric = self.lr_scheduler_type in (SchedulerType.REDUCE_ON_PLATEAU, SchedulerType.GREEDY)
        if (self.load_best_model_at_end or follows_metric or self.save_best) and self.metric_for_best_model is None:
            self.metric_for_best_model = "loss"
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not self.metric_for_best_model.endswith("loss")
        self._derive_report_to()
        if self.torch_compile_mode is not None or self.torch_compile_backend is not None:
            self.torch_compile = True
        if self.torch_compile and self.torch_compile_backend is None:
            self.torch_compile_backend = "inductor"
        if self.use_cpu:
            self.dataloader_pin_memory = False

    def _derive_report_to(self) -> None:
        report_to = [self.report_to] if isinstance(self.report_to, str) else list(self.report_to or [])
        if report_to == ["all"]:
            from transformers.integrations import get_available_reporting_integrations

            report_to = get_available_reporting_integrations()
        elif report_to == ["none"]:
            report_to = []
        is_off = os.environ.get("DISABLE_KUBEFLOW_INTEGRATION", "false").lower() == "true"
        if "KUBEFLOW_TRAINER_SERVER_URL" in os.environ and not is_off and "kubeflow" not in report_to:
            report_to.append("kubeflow")
        self.report_to = report_to

    def _prepare(self) -> None:
        """Set up this process as the arguments say."""
        self.mixed_precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if self.fp16 or self.bf16:
            self.mixed_precision = "fp16" if self.fp16 else "bf16"
        _ = self.device
        if self.tf32 is not None and checks.has_tf32():
            import torch

            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.backends.cudnn.allow_tf32 = self.tf32
