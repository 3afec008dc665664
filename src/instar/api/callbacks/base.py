"""The events that a callback may listen to."""

from typing import Any

from transformers.trainer_callback import ExportableState

EVENTS = (
    "on_init_end",
    "on_train_begin",
    "on_train_end",
    "on_epoch_begin",
    "on_epoch_end",
    "on_step_begin",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_substep_end",
    "on_step_end",
    "on_evaluate",
    "on_predict",
    "on_save",
    "on_log",
    "on_prediction_step",
    "on_push_begin",
)


def is_exportable(thing: Any) -> bool:
    """True for an ExportableState, and for what has its two methods."""
    has_methods = callable(getattr(thing, "state", None)) and callable(getattr(type(thing), "from_state", None))
    return isinstance(thing, ExportableState) or has_methods
