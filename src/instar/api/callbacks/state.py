"""How far a Trainer is: what `trainer_state.json` holds."""

import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from instar.api.callbacks.base import is_exportable
from instar.checkpoint.disk import replace_bytes

_log = logging.getLogger(__name__)


@dataclass
class TrainerState:
    """Counters, history and the best model of a run; a step is an optimizer step."""

    epoch: float = 0
    """Passes over the data, with the part of the present one."""
    global_step: int = 0
    max_steps: int = 0
    """Steps of the whole run."""
    logging_steps: float = 500
    eval_steps: float = 500
    save_steps: float = 500
    train_batch_size: int | None = None
    """Samples of a micro-batch on one process."""
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    """Floating-point operations of forward and backward since the run began."""
    log_history: list[dict[str, Any]] = None  # type: ignore[assignment]
    """Every record that was logged, with its step."""
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: dict[str, Any] = None  # type: ignore[assignment]
    """States of callbacks by the name of their class; may be given as the callbacks themselves."""

    def __post_init__(self) -> None:
        if self.log_history is None:
            self.log_history = []
        given: Any = self.stateful_callbacks
        self.stateful_callbacks = dict(given) if isinstance(given, Mapping) else exported_states(given or ())

    def save_to_json(self, json_path: str | Path) -> None:
        """`json_path` holds this state, whole, or what it held before."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        text = json.dumps(values, indent=2, sort_keys=True, default=_plain)
        replace_bytes(Path(json_path), text.encode() + b"\n")

    @classmethod
    def load_from_json(cls, json_path: str | Path) -> "TrainerState":
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

    def compute_steps(self, args: Any, max_steps: int) -> None:
        """Take the intervals of logging, evaluating and saving from `args`; a share becomes steps of `max_steps`."""
        for kind in ("logging_steps", "eval_steps", "save_steps"):
            interval = getattr(args, kind)
            if interval is not None:
                setattr(self, kind, math.ceil(max_steps * interval) if interval < 1 else interval)

    def init_training_references(self, trainer: Any, max_steps: int, num_train_epochs: int, trial: Any) -> None:
        """Take the length of the run, the trial it belongs to, and what process this is."""
        if trainer.hp_name is not None and trainer._trial is not None:
            self.trial_name = trainer.hp_name(trainer._trial)
        self.trial_params = None
        if trial is not None:
            self.trial_params = dict(trial if isinstance(trial, Mapping) else trial.params)
        self.max_steps = max_steps
        self.num_train_epochs = num_train_epochs
        self.is_local_process_zero = trainer.is_local_process_zero()
        self.is_world_process_zero = trainer.is_world_process_zero()


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
