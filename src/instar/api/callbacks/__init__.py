"""Callbacks of the Trainer: events, the flow of a run, progress, early stopping, preemption, reporting.

The names, the call shape and the files are those of Transformers, so its callbacks and its users' work unchanged.
"""

from transformers.trainer_callback import DefaultFlowCallback, ExportableState, TrainerCallback, TrainerControl

from instar.api.callbacks.base import EVENTS, is_exportable
from instar.api.callbacks.early_stopping import EarlyStoppingCallback, metric_name
from instar.api.callbacks.handler import CallbackHandler
from instar.api.callbacks.preemption import CheckpointManager, JITCheckpointCallback
from instar.api.callbacks.progress import PrinterCallback, ProgressCallback, progress_callback
from instar.api.callbacks.reporting import reporting_callbacks
from instar.api.callbacks.restoring import restore_states, resume_counting
from instar.api.callbacks.state import TrainerState, exported_states

__all__ = [
    "DEFAULT_CALLBACKS",
    "EVENTS",
    "CallbackHandler",
    "CheckpointManager",
    "DefaultFlowCallback",
    "EarlyStoppingCallback",
    "ExportableState",
    "JITCheckpointCallback",
    "PrinterCallback",
    "ProgressCallback",
    "TrainerCallback",
    "TrainerControl",
    "TrainerState",
    "default_callbacks",
    "exported_states",
    "is_exportable",
    "metric_name",
    "progress_callback",
    "reporting_callbacks",
    "restore_states",
    "resume_counting",
]

DEFAULT_CALLBACKS = [DefaultFlowCallback]


def default_callbacks(trainer: object) -> list[object]:
    """What a Trainer has before its user's own callbacks: the flow, reporting, and preemption where it is asked for.

    The class of `progress_callback` comes after the user's own.
    """
    args = trainer.args  # type: ignore[attr-defined]
    found: list[object] = [*DEFAULT_CALLBACKS, *reporting_callbacks(args.report_to, getattr(args, "logging_dir", None))]
    if getattr(args, "enable_jit_checkpoint", False):
        preemption = JITCheckpointCallback()
        preemption.set_trainer(trainer)
        found.append(preemption)
    return found
