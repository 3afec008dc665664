"""The drop-in Trainer: `from instar import Trainer, TrainingArguments`. Names are imported when they are used."""

from importlib import import_module
from typing import Any

_HOME = {
    "Trainer": "instar.api.trainer",
    "TrainingArguments": "instar.api.arguments",
    "Seq2SeqTrainer": "instar.api.seq2seq",
    "Seq2SeqTrainingArguments": "instar.api.arguments",
    "TrainerCallback": "instar.api.callbacks",
    "TrainerState": "instar.api.callbacks",
    "TrainerControl": "instar.api.callbacks",
    "ExportableState": "instar.api.callbacks",
    "CallbackHandler": "instar.api.callbacks",
    "DefaultFlowCallback": "instar.api.callbacks",
    "ProgressCallback": "instar.api.callbacks",
    "PrinterCallback": "instar.api.callbacks",
    "EarlyStoppingCallback": "instar.api.callbacks",
    "BestRun": "transformers.trainer_utils",
    "EvalLoopOutput": "transformers.trainer_utils",
    "EvalPrediction": "transformers.trainer_utils",
    "IntervalStrategy": "transformers.trainer_utils",
    "SaveStrategy": "transformers.trainer_utils",
    "HubStrategy": "transformers.trainer_utils",
    "PredictionOutput": "transformers.trainer_utils",
    "TrainOutput": "transformers.trainer_utils",
    "set_seed": "transformers.trainer_utils",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
