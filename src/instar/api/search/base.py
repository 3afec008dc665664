"""What a search asks of its backend, and what trials of all backends share."""

import gc
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, ClassVar, Protocol

import torch
from transformers.trainer_utils import BestRun

_log = logging.getLogger(__name__)


class SearchBackend(Protocol):
    """One package that chooses hyper-parameters."""

    package: ClassVar[str]
    install: ClassVar[str]
    """The line that installs it."""

    @classmethod
    def is_available(cls) -> bool:
        """Whether it can be imported."""
        return find_spec(cls.package) is not None

    def default_space(self, trial: Any) -> Any:
        """What is searched unless told: learning rate, epochs, seed and batch size."""

    def space_of(self, values: Mapping[str, Any], trial: Any) -> Any:
        """The same for a space that users gave as a mapping."""

    def parameters(self, trainer: Any, trial: Any) -> dict[str, Any]:
        """The hyper-parameters of a trial."""

    def run(self, trainer: Any, n_trials: int | None, direction: str | list[str], **options: Any) -> Any:
        """All trials; `BestRun`, or a list of them for several objectives."""

    def report(self, trainer: Any, trial: Any, step: int, metrics: Mapping[str, Any]) -> None:
        """Tell of an evaluation amid a trial; may end the trial by raising."""


class SearchMetrics(dict[str, Any]):
    """Metrics that an objective reads with the evaluation's prefix or without: `accuracy` finds `eval_accuracy`.

    KeyError names the metrics there are.
    """

    def __missing__(self, name: str) -> Any:
        prefixed = f"eval_{name}"
        if prefixed in self:
            return self[prefixed]
        raise KeyError(f"{name!r} is not among the metrics of the evaluation: {sorted(self)}")

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self or f"eval_{name}" in self else default

    def pop(self, name: str, *default: Any) -> Any:
        return super().pop(name if name in self else f"eval_{name}", *default)

    def copy(self) -> "SearchMetrics":
        return SearchMetrics(self)


def best_of(number: object, objective: Any, parameters: Mapping[str, Any], summary: Any = None) -> BestRun:
    """A `BestRun`, with several objectives as a list."""
    values = list(objective) if isinstance(objective, list | tuple) else objective
    return BestRun(str(number), values, dict(parameters), summary)


def run_trial(trainer: Any, trial: Any, checkpoint: str | None = None) -> dict[str, Any] | None:
    """Train once with a trial's hyper-parameters; `trainer.objective` is what came of it.

    The model before it is let go of first. Gives the metrics where nothing was evaluated (and told) on the way.
    """
    release(trainer)
    trainer.objective = None
    trainer.train(resume_from_checkpoint=checkpoint, trial=trial)
    if trainer.objective is not None:
        return None
    metrics: dict[str, Any] = trainer.evaluate()
    trainer.objective = trainer.compute_objective(SearchMetrics(metrics))
    return metrics


def release(trainer: Any) -> None:
    """Let go of what a trial filled the memory with."""
    if trainer.model_init is None:
        return
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    handler = trainer.callback_handler
    for name in ("model", "optimizer", "lr_scheduler", "train_dataloader", "eval_dataloader"):
        if hasattr(handler, name):
            setattr(handler, name, None)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def set_arguments(args: Any, values: Mapping[str, Any]) -> None:
    """Put a trial's values into the arguments, each as what stood there before; names without a place are said."""
    import difflib

    for name, value in values.items():
        if not hasattr(args, name):
            near = difflib.get_close_matches(name, list(vars(args)), n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            _log.warning(
                "%s is searched, but TrainingArguments has no such field%s: it reaches model_init alone", name, hint
            )
            continue
        setattr(args, name, _like(getattr(args, name), value))


def _like(before: Any, value: Any) -> Any:
    whole = isinstance(value, float) and value.is_integer()
    if before is None or (isinstance(before, int) and isinstance(value, float) and not whole):
        return value
    return type(before)(value) if isinstance(before, bool | int | float | str) else value
