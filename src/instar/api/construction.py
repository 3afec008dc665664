"""How a Trainer is put together."""

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import nn
from transformers.trainer_utils import enable_full_determinism, has_length, set_seed

from instar.api import traits
from instar.api.arguments import TrainingArguments, from_transformers, parallel_of
from instar.api.averaging import ignored_label
from instar.api.base import TrainerParts
from instar.api.callbacks import (
    CallbackHandler,
    TrainerControl,
    TrainerState,
    default_callbacks,
    is_exportable,
    progress_callback,
)
from instar.api.memory import TrainerMemoryTracker
from instar.api.smoothing import LabelSmoother
from instar.api.training_metrics import TrainingMetrics
from instar.objective.figures import OwnMetric
from instar.trainer.runtime import Precision, Runtime

_log = logging.getLogger(__name__)
_PRECISIONS: dict[str, Precision] = {"no": "float32", "fp16": "fp16", "bf16": "bf16"}


class Construction(TrainerParts):
    """The constructor, its checks, and what it leaves behind."""

    loss_is_scaled_for_ga: bool | None = None
    """For subclasses: whether their loss is divided by the targets of the whole step already; None: found out."""

    def __init__(
        self,
        model: Any = None,
        args: Any = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Any] | None = None,
        compute_metrics: Callable[..., dict[str, Any]] | None = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        *,
        metrics: Mapping[str, OwnMetric] | None = None,
        tokenizer: Any = None,
    ) -> None:
        """Everything that training, evaluation and saving need; arguments mean what they mean in Transformers.

        `metrics` are figures of training by name: functions of a micro-batch's logits and targets that give a sum and a
        count. They stand in every log line, over all micro-batches, steps and ranks since the line before.

        RuntimeError and ValueError for what cannot be trained; see the messages. `tokenizer` is the old spelling of
        `processing_class`.
        """
        if tokenizer is not None:
            warnings.warn("tokenizer is an old spelling; write processing_class", FutureWarning, stacklevel=2)
            processing_class = tokenizer if processing_class is None else processing_class
        self.args = _arguments(args)
        _seed(self.args)
        self._memory_tracker = TrainerMemoryTracker(self.args.skip_memory_metrics)
        self._memory_tracker.start("init")
        self._begin_process()
        self.data_collator = _collator(data_collator, processing_class)
        self.train_dataset = train_dataset
        self.eval_dataset = eval_dataset
        self.processing_class = processing_class
        self.compute_loss_func = compute_loss_func
        self.compute_metrics = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer, self.lr_scheduler = optimizers
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self.model_init = model_init
        self._metrics = TrainingMetrics(metrics) if metrics else None
        self._take_model(model)
        self._inspect_model()
        self._inspect_overrides()
        self._validate_args()
        self._add_callbacks(callbacks or [])
        self._begin_state()
        self._memory_tracker.stop_and_update_metrics(None, "init")

    # ---- the stages, in order ----

    def _begin_process(self) -> None:
        """The device, the ranks, and how much is said."""
        args = self.args
        self._accelerator: Any = None
        self.runtime = Runtime.start(str(args.device), _PRECISIONS[args.mixed_precision], parallel_of(args))
        self._scaler = self.runtime.scaler()
        self.is_fsdp_enabled = self.runtime.is_sharded
        self.is_deepspeed_enabled = False
        self.deepspeed: Any = None
        if args.log_level != "passive" or args.log_level_replica != "warning":
            for name in ("transformers", "instar"):
                logging.getLogger(name).setLevel(args.get_process_log_level())
        if not traits.is_own(self, Construction, "create_accelerator_and_postprocess"):
            self.create_accelerator_and_postprocess()

    def _take_model(self, model: Any) -> None:
        """The model, or a new one of `model_init`, in its place."""
        if model is not None and self.model_init is not None:
            raise ValueError("`Trainer` requires either a `model` or `model_init` argument, but not both.")
        if model is None:
            if self.model_init is None:
                raise RuntimeError("`Trainer` requires either a `model` or `model_init` argument")
            model = self.call_model_init()
        if isinstance(model, str):
            raise TypeError(
                f"model: wanted a torch.nn.Module; got the text {model!r}; load it first, like "
                f"AutoModelForSequenceClassification.from_pretrained({model!r})"
            )
        traits.refuse_untrained_quantised(model)
        self.is_model_parallel = _is_spread(model, self.args.device)
        asked = self.args.place_model_on_device
        is_cast_later = self.args.fp16_full_eval or self.args.bf16_full_eval
        self.place_model_on_device = (
            asked if asked is not None else not (self.is_model_parallel or is_cast_later or self.is_fsdp_enabled)
        )
        if self.place_model_on_device and "bitsandbytes" not in str(getattr(model, "quantization_method", "")):
            self._move_model_to_device(model, self.args.device)
        self.model = self.model_wrapped = model

    def _inspect_model(self) -> None:
        base = traits.base_of(self.model)
        self.model_accepts_loss_kwargs = traits.takes_loss_kwargs(base)
        self._loss_shifts_labels = traits.loss_shifts_labels(base)
        traits.choose_default_loss(base)
        self._ignored_label = ignored_label(getattr(self.model, "config", None))
        self.can_return_loss = traits.can_return_loss(base)
        given = self.args.label_names
        self.label_names = traits.label_names_of(base) if given is None else given
        self.label_smoother = None
        if self.args.label_smoothing_factor != 0:
            config = getattr(self.model, "config", None)
            if getattr(config, "problem_type", None) == "multi_label_classification":
                warnings.warn(
                    "Label smoothing is not compatible with multi-label classification. Disabling label smoothing "
                    "for this training run.",
                    UserWarning,
                    stacklevel=4,
                )
            else:
                self.label_smoother = LabelSmoother(epsilon=self.args.label_smoothing_factor)
        self.neftune_noise_alpha = self.args.neftune_noise_alpha
        self._signature_columns: list[str] | None = None

    def _validate_args(self) -> None:
        """Refuse what cannot go together."""
        args = self.args
        accelerate: Any = args.accelerator_config
        args.gradient_accumulation_steps = accelerate.accumulation_steps(args.gradient_accumulation_steps)
        if self._metrics is not None and not self._step_takes["is_own_loss"]:
            raise ValueError(
                "metrics: compute_loss is overridden, so the outputs of training are not seen; call self.log there"
            )
        by_batch = args.batch_eval_metrics and self.compute_metrics is not None
        if by_batch and "compute_result" not in signature(self.compute_metrics).parameters:  # type: ignore[arg-type]
            raise ValueError(
                "When using `batch_eval_metrics`, your `compute_metrics` function must take a `compute_result` boolean "
                "argument, which is True with the last batch, when it is to return the metrics."
            )
        if args.eval_strategy not in (None, "no") and self.eval_dataset is None:
            strategy = getattr(args.eval_strategy, "value", args.eval_strategy)
            raise ValueError(
                f"You have set `args.eval_strategy` to {strategy} but you didn't pass an `eval_dataset` to "
                "`Trainer`. Either set `args.eval_strategy` to `no` or pass an `eval_dataset`."
            )
        if (args.save_strategy == "best" or args.load_best_model_at_end) and args.metric_for_best_model is None:
            raise ValueError(
                "`args.metric_for_best_model` must be provided when using 'best' save_strategy or if "
                "`args.load_best_model_at_end` is set to `True`."
            )
        self._validate_optimizers()
        collator = self.data_collator
        if not callable(collator) and callable(getattr(collator, "collate_batch", None)):
            raise TypeError("The `data_collator` should be a simple callable (function, class with `__call__`).")
        if self.train_dataset is not None and not has_length(self.train_dataset) and args.max_steps <= 0:
            raise ValueError(
                "The train_dataset does not implement __len__, so the number of training steps cannot be inferred; "
                "max_steps has to be specified."
            )

    def _validate_optimizers(self) -> None:
        if self.optimizer_cls_and_kwargs is not None and self.optimizer is not None:
            raise RuntimeError("Passing both `optimizers` and `optimizer_cls_and_kwargs` arguments is incompatible.")
        given = self.optimizer is not None or self.lr_scheduler is not None
        wants = "You should subclass `Trainer` and override the `create_optimizer_and_scheduler` method."
        if self.model_init is not None and given:
            raise RuntimeError(
                f"Passing a `model_init` is incompatible with providing the `optimizers` argument. {wants}"
            )
        if self.is_fsdp_enabled and given:
            raise RuntimeError(f"Passing `optimizers` is not allowed if PyTorch FSDP is enabled. {wants}")
        groups = getattr(self.optimizer, "param_groups", None) or ()
        held = {id(parameter) for group in groups for parameter in group["params"]}
        if held and held.isdisjoint(map(id, self.model.parameters())):
            _log.warning(
                "optimizers: the optimizer holds no parameter of the model, so training changes nothing; make it of "
                "model.parameters()"
            )

    def _add_callbacks(self, callbacks: list[Any]) -> None:
        self.callback_handler = CallbackHandler(
            [*default_callbacks(self), *callbacks],
            self.model,
            self.processing_class,
            self.optimizer,
            self.lr_scheduler,
        )
        self.add_callback(progress_callback(disable_tqdm=self.args.disable_tqdm))
        self.hub_model_id = None
        if self.args.push_to_hub:
            self.init_hf_repo()
        if self.args.should_save:
            os.makedirs(self.args.output_dir, exist_ok=True)  # noqa: PTH103 (the folder is a text in the arguments)

    def _begin_state(self) -> None:
        self.control = TrainerControl()
        self.state = TrainerState(
            is_local_process_zero=self.is_local_process_zero(),
            is_world_process_zero=self.is_world_process_zero(),
            stateful_callbacks=self._exportable(),
        )
        self.is_in_train = False
        self.hp_name = None
        self.hp_search_backend = None
        self.current_flos = 0
        self.current_gradient_accumulation_steps = self.args.gradient_accumulation_steps
        self._trial: Any = None
        self._train_batch_size = self._read_batch_size = self.args.train_batch_size
        self._created_lr_scheduler = False
        self._weight_average = None
        self.control = self.callback_handler.on_init_end(self.args, self.state, self.control)
        if getattr(self.model, "config", None) is not None and hasattr(self.model.config, "use_cache"):
            self.model.config.use_cache = self.args.use_cache

    def _exportable(self) -> list[Any]:
        """Callbacks, and the control, whose state a checkpoint holds."""
        return [thing for thing in (*self.callback_handler.callbacks, self.control) if is_exportable(thing)]

    # ---- for users ----

    @property
    def tokenizer(self) -> Any:
        """The old name of `processing_class`."""
        warnings.warn("Trainer.tokenizer is now Trainer.processing_class", FutureWarning, stacklevel=2)
        return self.processing_class

    @tokenizer.setter
    def tokenizer(self, processing_class: Any) -> None:
        warnings.warn("Trainer.tokenizer is now Trainer.processing_class", FutureWarning, stacklevel=2)
        self.processing_class = processing_class

    @property
    def accelerator(self) -> Any:
        """An `accelerate.Accelerator` over this run's processes, for users' code; made when it is first asked for."""
        if self._accelerator is None:
            self.create_accelerator_and_postprocess()
        return self._accelerator

    @accelerator.setter
    def accelerator(self, accelerator: Any) -> None:
        self._accelerator = accelerator

    def create_accelerator_and_postprocess(self) -> None:
        """Make `self.accelerator`. Training itself does not go through it."""
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState

        config: Any = self.args.accelerator_config
        if not config.use_configured_state:
            AcceleratorState._reset_state(reset_partial_state=True)
        self._accelerator = Accelerator(
            cpu=self.args.device.type == "cpu",
            mixed_precision=self.args.mixed_precision,
            **config.accelerator_options(self.args.data_seed),
        )

    def add_callback(self, callback: Any) -> None:
        """Add a callback, or one made of a class."""
        self.callback_handler.add_callback(callback)

    def pop_callback(self, callback: Any) -> Any:
        """Take out a callback, or the first one of a class, and give it back; None where there is none."""
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: Any) -> None:
        """Take out a callback, or the first one of a class."""
        self.callback_handler.remove_callback(callback)

    def is_local_process_zero(self) -> bool:
        """True on the main process of each machine."""
        return self.args.local_process_index == 0

    def is_world_process_zero(self) -> bool:
        """True on the main process of the run."""
        return self.args.process_index == 0

    def call_model_init(self, trial: Any = None) -> nn.Module:
        """A new model of `model_init`, which takes the trial or nothing; RuntimeError for anything else."""
        if self.model_init is None:
            raise RuntimeError("there is no model_init to call")
        taken = len(signature(self.model_init).parameters)
        if taken > 1:
            raise RuntimeError("model_init should have 0 or 1 argument.")
        model = self.model_init(trial) if taken else self.model_init()
        if model is None:
            raise RuntimeError("model_init should not return None.")
        return model

    def num_examples(self, dataloader: Any) -> int:
        """Samples that a data loader reads; where its dataset has no length, batches times the batch size."""
        dataset = getattr(dataloader, "dataset", None)
        dataset = getattr(dataset, "sharded", dataset)
        if dataset is not None and has_length(dataset):
            return len(dataset)
        return len(dataloader) * self.args.per_device_train_batch_size

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Operations of a forward and a backward pass over a batch: six times tokens times parameters.

        0 for models that cannot count their parameters; those of the others are counted once, not in every step.
        """
        model = self.model
        name = getattr(model, "main_input_name", "input_ids")
        if not hasattr(model, "num_parameters") or name not in inputs:
            return 0
        counted = self.__dict__.get("_flos_parameters")
        if counted is None or counted[0] is not model:
            counted = self._flos_parameters = (model, int(model.num_parameters(exclude_embeddings=True)))  # type: ignore[operator]
        return int(6 * inputs[name].numel() * counted[1])

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        """Move the model, unless its parts have their own devices already."""
        if getattr(model, "hf_device_map", None) is not None:
            _log.warning("The model is already on multiple devices. Skipping the move to the device of `args`.")
            return
        model.to(device)


def _arguments(given: Any) -> TrainingArguments:
    if given is None:
        _log.info("No `TrainingArguments` passed, using `output_dir=tmp_trainer`.")
        return TrainingArguments(output_dir="tmp_trainer")
    return from_transformers(given)


def _seed(args: TrainingArguments) -> None:
    if args.full_determinism:
        enable_full_determinism(args.seed)
    else:
        set_seed(args.seed)


def _collator(given: Any, processing_class: Any) -> Any:
    """The collator given, or one that pads where there is a tokenizer or feature extractor to pad with."""
    if given is not None:
        return given
    import transformers

    pads = (transformers.PreTrainedTokenizerBase, transformers.SequenceFeatureExtractor)
    if processing_class is not None and isinstance(processing_class, pads):
        return transformers.DataCollatorWithPadding(processing_class)
    return transformers.default_data_collator


def _is_spread(model: Any, device: torch.device) -> bool:
    """True for a model whose layers have devices of their own, other than that of this process."""
    places = getattr(model, "hf_device_map", None)
    if places is None:
        return False
    used = {place for place in places.values() if place not in ("cpu", "disk")}
    return len(used) > 1 or (len(used) == 1 and device != torch.device(used.pop()))
