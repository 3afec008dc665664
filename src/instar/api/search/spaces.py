"""Spaces of hyper-parameters."""

from collections.abc import Mapping
from typing import Any

BATCH_SIZES = [4, 8, 16, 32, 64]


def suggest_default(trial: Any) -> dict[str, Any]:
    """Learning rate, epochs, seed and batch size, of Optuna's trial."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True),
        "num_train_epochs": trial.suggest_int("num_train_epochs", 1, 5),
        "seed": trial.suggest_int("seed", 1, 40),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", BATCH_SIZES),
    }


def suggest(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    """One value for each name: a list is a choice, (low, high) a range of whole or real numbers, (low, high, "log")

    a range by order of magnitude, a distribution of Optuna itself; anything else is fixed. ValueError lists all
    ranges that are none.
    """
    faults = [f"{name}: {fault}" for name, values in space.items() if (fault := _fault(values))]
    if faults:
        raise ValueError("the space of hyper-parameters cannot be searched: " + "; ".join(faults))
    return {name: _suggest(trial, name, values) for name, values in space.items()}


def _fault(values: Any) -> str | None:
    if isinstance(values, list):
        return None if values else "wanted at least one choice; got none"
    if not isinstance(values, tuple):
        return None
    is_range = len(values) in (2, 3) and all(isinstance(bound, int | float) for bound in values[:2])
    if not is_range or (len(values) == 3 and values[2] != "log"):
        return f'wanted (low, high) or (low, high, "log"); got {values!r}'
    if values[0] > values[1] or (len(values) == 3 and values[0] <= 0):
        return f"wanted low <= high, and above 0 for a logarithmic range; got {values!r}"
    return None


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    if isinstance(values, tuple):
        low, high, is_log = values[0], values[1], len(values) == 3
        whole = isinstance(low, int) and isinstance(high, int)
        return (trial.suggest_int if whole else trial.suggest_float)(name, low, high, log=is_log)
    if hasattr(values, "to_internal_repr"):
        return trial._suggest(name, values)
    return values
