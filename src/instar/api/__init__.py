"""The drop-in Trainer: `from instar import Trainer, TrainingArguments`. Names are imported when they are used."""

from importlib import import_module
from typing import Any

_HOME = {
    "Trainer": "trainer",
    "TrainingArguments": "arguments",
    "Seq2SeqTrainer": "seq2seq",
    "Seq2SeqTrainingArguments": "arguments",
    "TrainerCallback": "callbacks",
    "TrainerState": "callbacks",
    "TrainerControl": "callbacks",
    "ExportableState": "callbacks",
    "CallbackHandler": "callbacks",
    "DefaultFlowCallback": "callbacks",
    "ProgressCallback": "callbacks",
    "PrinterCallback": "callbacks",
    "EarlyStoppingCallback": "callbacks",
    "BestRun": "outputs",
    "EvalLoopOutput": "outputs",
    "EvalPrediction": "outputs",
    "IntervalStrategy": "outputs",
    "SaveStrategy": "outputs",
    "HubStrategy": "outputs",
    "PredictionOutput": "outputs",
    "TrainOutput": "outputs",
    "set_seed": "outputs",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
