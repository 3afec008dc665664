"""What a model's class tells about how to train it."""

from inspect import Parameter, signature
from typing import Any

from torch import nn


def is_own(trainer: Any, owner: type, name: str) -> bool:
    """True where a trainer's method is the very function that `owner` defines.

    False for an override of a subclass, one that a decorator made, and one that was set on the instance or a class.
    """
    found = getattr(trainer, name)
    return getattr(found, "__func__", None) is getattr(owner, name) and found.__self__ is trainer


def unwrapped(model: Any) -> Any:
    """The module inside DDP, FSDP's first version, a compiled module, or any of them in each other."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = model.module
        if inner is None:
            return model
        model = inner


def is_adapted(model: Any) -> bool:
    """True for a PEFT model."""
    return type(model).__module__.partition(".")[0] == "peft" or any(
        cls.__module__.startswith("peft.") for cls in type(model).__mro__
    )


def base_of(model: Any) -> Any:
    """The model under its adapters."""
    model = unwrapped(model)
    if not is_adapted(model):
        return model
    return model.get_base_model() if hasattr(model, "get_base_model") else model.base_model.model


def label_names_of(model: nn.Module) -> list[str]:
    """Arguments of the forward that hold targets."""
    names = list(signature(type(model).forward).parameters)
    answers = ("start_positions", "end_positions") if "QuestionAnswering" in type(model).__name__ else ()
    return [name for name in names if "label" in name or name in answers]


def can_return_loss(model: nn.Module) -> bool:
    """True for models such as CLIP, which make their targets themselves."""
    asked = signature(type(model).forward).parameters.get("return_loss")
    return asked is not None and asked.default is True


def takes_loss_kwargs(model: Any) -> bool:
    """Whether the forward can be told by how many targets to divide its loss."""
    if hasattr(model, "accepts_loss_kwargs"):
        return bool(model.accepts_loss_kwargs)
    return any(value.kind == Parameter.VAR_KEYWORD for value in signature(model.forward).parameters.values())


def loss_shifts_labels(model: Any) -> bool:
    """Whether the loss compares each place with the label of the next, so that the first label is no target."""
    kind = getattr(model, "loss_type", None)
    if kind is None or getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

    return LOSS_MAPPING.get(kind) is ForCausalLMLoss


def choose_default_loss(model: Any) -> None:
    """Let Transformers take its default for a model that names no loss, without a warning that says it did.

    The warning comes once a process; what the loss averages is found by computing it again, so nobody need act on it.
    """
    is_unnamed = getattr(model, "loss_type", "") is None and isinstance(
        getattr(type(model), "loss_function", None), property
    )
    if is_unnamed:
        from instar.model.quiet import quiet

        with quiet():
            model.loss_function  # noqa: B018  a property that warns


def is_causal(model: Any) -> bool:
    """True for a causal language model of Transformers: its logits at a place are about the next."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return type(base_of(model)).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def refuse_headless(model: Any) -> None:
    """ValueError for a stock model of Transformers that gives hidden states alone, whatever it is given."""
    kind = type(model)
    if kind.__module__.partition(".")[0] != "transformers":
        return
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    headless = {one for names in MODEL_MAPPING_NAMES.values() for one in ([names] if type(names) is str else names)}
    is_stock = getattr(transformers, kind.__name__, None) is kind and "forward" not in vars(model)
    if not is_stock or kind.__name__ not in headless:
        return
    if label_names_of(model) or "return_loss" in signature(kind.forward).parameters:
        return
    raise ValueError(
        f"The model you have picked ({kind.__name__}) cannot be used as is for training: it only computes hidden "
        "states and does not accept any labels. Choose a model with a head for your task, one of AutoModelForXxx, or "
        "give a compute_loss_func"
    )


def refuse_untrained_quantised(model: Any) -> None:
    """ValueError for a quantised model that has no adapters."""
    if getattr(model, "is_quantized", False):
        from transformers.trainer_utils import validate_quantization_for_training

        validate_quantization_for_training(model)
