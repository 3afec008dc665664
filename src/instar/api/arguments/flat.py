"""`TrainingArguments`: those of Transformers and our own, completed and checked when they are made."""

import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from transformers import training_args
from transformers.debug_utils import DebugOption
from transformers.trainer_utils import IntervalStrategy, SchedulerType

from instar.api.arguments import checks, kinds, parallelism, refused
from instar.api.arguments.accelerator import AcceleratorConfig
from instar.api.arguments.devices import Devices
from instar.api.arguments.faults import ArgumentError, Fault
from instar.api.arguments.flags import accept_old_flags
from instar.api.arguments.launcher import launched_deepspeed
from instar.api.arguments.naming import Named
from instar.api.arguments.own import InstarArguments
from instar.api.arguments.written import Written


@accept_old_flags
@dataclass(repr=False)
class TrainingArguments(InstarArguments, Devices, Written, training_args.TrainingArguments, metaclass=Named):
    """Every argument of a training run: those of the installed `transformers.TrainingArguments`, and instar's own.

    Making one checks it: ArgumentError (a ValueError) lists all faults together; TypeError all unknown names.
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = list(kinds.DICT_FIELDS)
    default_optim: ClassVar[str] = "adamw_torch_fused"
    """The value of `optim` where none is given."""

    def __post_init__(self: Any) -> None:
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

    def _resolve_aliases(self: Any) -> None:
        for old in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
            new = old.replace("gradient", "activation")
            if getattr(self, new) is None and getattr(self, old) is not None:
                warnings.warn(f"{old} is an old spelling; write {new}", FutureWarning, stacklevel=5)
                setattr(self, new, getattr(self, old))
            setattr(self, old, getattr(self, new))
        if self.activation_checkpointing is None:
            self.activation_checkpointing = self.gradient_checkpointing = False

    def _read_debug(self: Any) -> Iterator[Fault]:
        given = self.debug.split() if isinstance(self.debug, str) else self.debug or []
        try:
            self.debug = [DebugOption(option) for option in given]
        except ValueError as error:
            yield Fault("debug", str(error))

    def _read_accelerator(self: Any) -> Iterator[Fault]:
        try:
            self.accelerator_config = AcceleratorConfig.read(self.accelerator_config)
        except (ValueError, TypeError, OSError) as error:
            yield Fault("accelerator_config", str(error))

    def _read_deepspeed(self: Any) -> Iterator[Fault]:
        self.deepspeed_plugin: Any = None
        config = self.deepspeed or launched_deepspeed()
        if config:
            from instar.api import deepspeed

            yield from deepspeed.apply(config, self)
            yield from kinds.check(self, TrainingArguments)

    def _derive(self: Any) -> None:
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

    def _derive_report_to(self: Any) -> None:
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

    def _prepare(self: Any) -> None:
        """Set up this process as the arguments say."""
        self.mixed_precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if self.fp16 or self.bf16:
            self.mixed_precision = "fp16" if self.fp16 else "bf16"
        _ = self.device
        if self.tf32 is not None and checks.has_tf32():
            import torch

            torch.backends.cuda.matmul.allow_tf32 = self.tf32
            torch.backends.cudnn.allow_tf32 = self.tf32
