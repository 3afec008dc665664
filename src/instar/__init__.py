"""instar carries one transformer language model through its whole life."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instar.api.arguments import Seq2SeqTrainingArguments as Seq2SeqTrainingArguments
    from instar.api.arguments import TrainingArguments as TrainingArguments
    from instar.api.callbacks import EarlyStoppingCallback as EarlyStoppingCallback
    from instar.api.callbacks import TrainerCallback as TrainerCallback
    from instar.api.callbacks import TrainerControl as TrainerControl
    from instar.api.callbacks import TrainerState as TrainerState
    from instar.api.trainer import Trainer as Trainer

__version__ = "0.1.0"

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    """The names of `instar.api`, imported when they are first used."""
    from importlib import import_module

    api = import_module("instar.api") if not name.startswith("_") and name != "api" else None
    if api is None or name not in api.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(api, name)
    globals()[name] = value
    return value
