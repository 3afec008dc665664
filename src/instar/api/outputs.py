"""What the Trainer face hands back: named tuples, the choices it accepts by name, and the small measures in them.

Names, fields and order are those of `transformers.trainer_utils`, so that code written for its Trainer
reads them unchanged; nothing of that package is imported here.
"""

import difflib
import inspect
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sized
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np
import torch

PREFIX_CHECKPOINT_DIR = "checkpoint"
_CHECKPOINT = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
_NOT_AN_OBJECTIVE = ("_runtime", "_per_second")


class EvalPrediction:
    """What `compute_metrics` is given: NumPy arrays, nested as the model nests its outputs.

    `inputs` and `losses` are there only when `include_for_metrics` asks for them; iteration and indexing
    give (predictions, label_ids[, inputs][, losses]) without those that are absent.
    """

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None, losses: Any = None) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs
        self.losses = losses
        self.elements: tuple[Any, ...] = (
            predictions,
            label_ids,
            *(extra for extra in (inputs, losses) if extra is not None),
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self.elements):
            raise IndexError("tuple index out of range")
        return self.elements[index]


class EvalLoopOutput(NamedTuple):
    """One pass over a data loader; `num_samples` counts the rows that were really there, not the padding."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None
    num_samples: int | None


class PredictionOutput(NamedTuple):
    """What `predict` gives; `label_ids` and the metrics that need them are None where the data has no labels."""

    predictions: Any
    label_ids: Any
    metrics: dict[str, float] | None


class TrainOutput(NamedTuple):
    """What `train` gives; `training_loss` is the mean over this call's steps."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class BestRun(NamedTuple):
    """The best trial of a search; `run_id` names its folder (`run-<run_id>`), `objective` is a list for several."""

    run_id: str
    objective: float | list[float]
    hyperparameters: dict[str, Any]
    run_summary: Any | None = None


class NamedChoice(StrEnum):
    """A choice that users spell as a string; equal to that string, and an unknown one names the nearest."""

    @classmethod
    def _missing_(cls, value: object) -> Self:
        known = [member.value for member in cls]
        near = difflib.get_close_matches(str(value), known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{value!r} is not a valid {cls.__name__}, please select one of {known}{hint}")


class IntervalStrategy(NamedChoice):
    """When something happens: never, every so many steps, at the end of each epoch."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"


class SaveStrategy(NamedChoice):
    """When a checkpoint is written; `best` saves whenever the metric of the best model improves."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
    BEST = "best"


class HubStrategy(NamedChoice):
    """What is uploaded when: the model at the end, at every save, with the last checkpoint, with all of them."""

    END = "end"
    EVERY_SAVE = "every_save"
    CHECKPOINT = "checkpoint"
    ALL_CHECKPOINTS = "all_checkpoints"


class HPSearchBackend(NamedChoice):
    """The package that chooses the next hyper-parameters."""

    OPTUNA = "optuna"
    RAY = "ray"
    WANDB = "wandb"


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seed python, numpy and torch (every device); `deterministic` also refuses kernels that are not reproducible."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)


def enable_full_determinism(seed: int, warn_only: bool = False) -> None:
    """Seed everything and let torch, cuBLAS and cuDNN use reproducible kernels only (an error, or a warning, else)."""
    set_seed(seed)
    os.environ["CUDA_LAUNCH_BLOCKING"] = "1"
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def speed_metrics(
    split: str,
    start_time: float,
    num_samples: float | None = None,
    num_steps: float | None = None,
    num_tokens: float | None = None,
) -> dict[str, float]:
    """`{split}_runtime` in seconds since `start_time` (of `time.time()`), and what was done per second in it."""
    runtime = time.time() - start_time
    measured = {f"{split}_runtime": round(runtime, 4)}
    if runtime <= 0:
        return measured
    for unit, count in (("samples", num_samples), ("steps", num_steps), ("tokens", num_tokens)):
        if count is not None:
            measured[f"{split}_{unit}_per_second"] = round(count / runtime, 3)
    return measured


def denumpify_detensorize(metrics: Any) -> Any:
    """The same nest of lists, tuples and dicts with NumPy scalars and one-element tensors as Python numbers."""
    if isinstance(metrics, list | tuple):
        return type(metrics)(denumpify_detensorize(value) for value in metrics)
    if isinstance(metrics, Mapping):
        return type(metrics)({key: denumpify_detensorize(value) for key, value in metrics.items()})  # type: ignore[call-arg]
    if isinstance(metrics, np.generic) or (isinstance(metrics, torch.Tensor) and metrics.numel() == 1):
        return metrics.item()
    return metrics


def has_length(dataset: Any) -> TypeGuard[Sized]:
    """Whether `len(dataset)` gives a number."""
    try:
        return len(dataset) is not None
    except (TypeError, AttributeError):
        return False


def get_last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The path of `checkpoint-<n>` with the highest n in `folder`; None where there is none."""
    steps = {
        int(match[1]): path
        for path in Path(folder).iterdir()
        if (match := _CHECKPOINT.fullmatch(path.name)) and path.is_dir()
    }
    return str(steps[max(steps)]) if steps else None


def default_compute_objective(metrics: Mapping[str, float]) -> float:
    """What a search optimises unless told: the sum of the users' metrics, or the loss where there are none."""
    others = {
        name: value
        for name, value in metrics.items()
        if name not in ("eval_loss", "epoch") and not name.endswith(_NOT_AN_OBJECTIVE)
    }
    return sum(others.values()) if others else metrics["eval_loss"]


def takes_argument(function: Callable[..., Any], name: str) -> bool:
    """Whether `function` may be called with `name=...`."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def takes_positional(function: Callable[..., Any], count: int) -> bool:
    """Whether `function` may be called with `count` arguments by their place."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in by_place for kind in kinds) >= count
