"""How far a Trainer is: what `trainer_state.json` holds."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from transformers import trainer_callback

from instar.api.callbacks.base import is_exportable
from instar.core.files.durable import replace_bytes

_log = logging.getLogger(__name__)


@dataclass
class TrainerState(trainer_callback.TrainerState):
    """Counters, history and the best model of a run; a step is an optimizer step.

    Transformers' own, written so that its file is whole at every moment, and read also where its keys are others.
    """

    def __post_init__(self) -> None:
        if self.log_history is None:
            self.log_history: list[dict[str, Any]] = []
        given: Any = self.stateful_callbacks
        self.stateful_callbacks: dict[str, Any] = (
            dict(given) if isinstance(given, Mapping) else exported_states(given or ())
        )

    def save_to_json(self, json_path: str | Path) -> None:
        """`json_path` holds this state, whole, or what it held before."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        text = json.dumps(values, indent=2, sort_keys=True, default=_plain)
        replace_bytes(Path(json_path), text.encode() + b"\n")

    @classmethod
    def load_from_json(cls, json_path: str | Path) -> Self:
        """The state that was saved there, by this package or by Transformers; keys it has no use for are left out.

        FileNotFoundError for a missing file, ValueError for one that holds no state.
        """
        try:
            values = json.loads(Path(json_path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, RecursionError, json.JSONDecodeError) as error:
            raise ValueError(f"{json_path}: is not the JSON of a trainer's state: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{json_path}: wanted the values of a trainer's state; got {type(values).__name__}")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            _log.warning("%s: holds values that are of no use here, and are left out: %s", json_path, unknown)
        return cls(**{name: value for name, value in values.items() if name in known})

    def init_training_references(self, trainer: Any, max_steps: int, num_train_epochs: int, trial: Any) -> None:
        """Take the length of the run, the trial it belongs to, and what process this is."""
        super().init_training_references(trainer, max_steps, num_train_epochs, None)
        if trial is not None:
            self.trial_params = dict(trial if isinstance(trial, Mapping) else trial.params)


def exported_states(callbacks: Iterable[Any]) -> dict[str, Any]:
    """The state of each callback, by the name of its class; a list of states where several have the same."""
    found: dict[str, list[dict[str, Any]]] = {}
    for callback in callbacks:
        if not is_exportable(callback):
            raise TypeError(
                f"All callbacks passed to be saved must inherit `ExportableState`, but received {type(callback)}"
            )
        found.setdefault(type(callback).__name__, []).append(callback.state())
    return {name: states[0] if len(states) == 1 else states for name, states in found.items()}


def _plain(value: Any) -> Any:
    """Numbers that a user's metrics or callbacks put there as arrays or tensors."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a trainer's state is saved as JSON, which has nothing for {type(value).__name__}: {value!r}")
