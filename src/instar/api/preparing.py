"""What training does to a model before its first step, and undoes after its last."""

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from instar.api import traits
from instar.core.products import SETTING, VALUE
from instar.model.memory import own_memory
from instar.model.products import depend_on_alignment
from instar.model.specialize import Changes
from instar.model.speed import fast_cpu

if TYPE_CHECKING:
    from instar.api.steps import Plan

_log = logging.getLogger(__name__)


@contextmanager
def prepared(trainer: Any) -> Iterator[None]:
    """The model as its arguments want it trained within; as it was after, also when training failed."""
    args, model = trainer.args, trainer.model
    with ExitStack() as after:
        after.callback(_leave_training, trainer)
        own_memory(model)
        trainer._changes = Changes(model)
        after.callback(trainer._changes.undo)
        if args.fast_path and args.device.type == "cpu":
            after.enter_context(fast_cpu())
        if args.device.type == "cpu" and depend_on_alignment():
            _say_that_products_depend()
        casts = args.fp16_full_eval or args.bf16_full_eval
        if casts and not trainer.is_model_parallel:
            trainer._move_model_to_device(model, args.device)
        _align_tokens(model, trainer.processing_class)
        with trainer._changes:
            _change(trainer, model, after)
        yield


def _leave_training(trainer: Any) -> None:
    trainer.is_in_train = False
    trainer._begin_pieces(())
    trainer._uneven, trainer._fast_path = (), None
    del trainer._changes  # which holds the model
    if trainer._structure is not None:
        trainer._structure.close()
        trainer._structure = None


def _change(trainer: Any, model: Any, after: ExitStack) -> None:
    """What the arguments ask to be changed about the model's modules."""
    args = trainer.args
    if args.use_liger_kernel:
        from transformers.integrations.liger import apply_liger_kernel

        apply_liger_kernel(model, args.liger_kernel_config)
    if args.activation_checkpointing:
        _checkpoint_activations(model, dict(args.activation_checkpointing_kwargs or {}))
    if trainer.neftune_noise_alpha is not None:
        from transformers.integrations.neftune import activate_neftune, deactivate_neftune

        bare = traits.unwrapped(model)
        trainer.neftune_hook_handle = activate_neftune(bare, trainer.neftune_noise_alpha)
        after.callback(deactivate_neftune, bare, trainer.neftune_hook_handle)
    if "underflow_overflow" in [str(getattr(option, "value", option)) for option in args.debug]:
        from transformers.debug_utils import DebugUnderflowOverflow

        DebugUnderflowOverflow(model)


@cache
def _say_that_products_depend() -> None:
    _log.warning(
        "float32 products depend on memory alignment in this process, so that data in memory of other libraries can "
        "change the last bits of a result; weights are kept aligned. For products that are the same at any alignment: "
        "export %s=%s before Python starts",
        SETTING,
        VALUE,
    )


def _checkpoint_activations(model: Any, kwargs: dict[str, Any]) -> None:
    every, offload = kwargs.pop("every_n_layers", 1), kwargs.pop("offload", False)
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(
            activation_checkpointing_kwargs=kwargs or None, every_n_layers=every, offload=offload
        )
        return
    if not hasattr(model, "gradient_checkpointing_enable"):
        raise ValueError(
            f"activation_checkpointing: {type(model).__name__} has neither activation_checkpointing_enable nor "
            "gradient_checkpointing_enable"
        )
    if every != 1 or offload:
        raise ValueError(
            f"activation_checkpointing_kwargs: {type(model).__name__} knows gradient_checkpointing_enable only, which "
            "takes neither every_n_layers nor offload"
        )
    warnings.warn(
        f"`{type(model).__name__}` only defines `gradient_checkpointing_enable`; define "
        "`activation_checkpointing_enable` instead",
        FutureWarning,
        stacklevel=5,
    )
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs or None)


def _align_tokens(model: Any, processing_class: Any) -> None:
    """Special tokens that the tokenizer has and the model's config does not."""
    if processing_class is None or not hasattr(getattr(model, "config", None), "get_text_config"):
        return
    import transformers

    if isinstance(processing_class, transformers.PreTrainedTokenizerBase | transformers.ProcessorMixin):
        from transformers.trainer_utils import align_special_tokens

        align_special_tokens(model, processing_class)


@contextmanager
def quiet_uploads() -> Iterator[None]:
    """No progress bars of uploads within."""
    import huggingface_hub.utils as hub

    hub.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        hub.enable_progress_bars()  # type: ignore[attr-defined]


def wrapped(trainer: Any, model: Any) -> Any:
    """The model shared among ranks, and compiled where that is asked for; one that is wrapped already as it is."""
    if trainer.model_wrapped is not model and traits.unwrapped(trainer.model_wrapped) is traits.unwrapped(model):
        return trainer.model_wrapped
    runtime, args = trainer.runtime, trainer.args
    if runtime.world_size > 1 or runtime.is_sharded:
        model = runtime.wrap(model)
    if args.torch_compile and _can_compile(args):
        model = torch.compile(model, backend=args.torch_compile_backend, mode=args.torch_compile_mode)
    return model


def _can_compile(args: Any) -> bool:
    compilers = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    if args.torch_compile_backend != "inductor" or any(shutil.which(name) for name in compilers if name):
        return True
    _log.warning("torch_compile: there is no C++ compiler here, so the model runs as it is, not compiled")
    return False


def say_plan(trainer: Any, plan: "Plan", max_steps: int) -> None:
    """Tell what is about to be trained, for those who listen at the level of information."""
    if not _log.isEnabledFor(logging.INFO):
        return
    _log.info(
        "***** Running training *****\n  Num Epochs = %s\n  Micro-batch of a device = %s samples\n"
        "  Step = %s samples\n  Total optimization steps = %s\n  Trainable parameters = %s",
        f"{plan.num_epochs:,}",
        trainer._train_batch_size,
        trainer.get_total_train_batch_size(),
        f"{max_steps:,}",
        f"{trainer.get_num_trainable_parameters():,}",
    )
