"""Going on from a checkpoint: of this package or of Transformers, with nothing unpickled."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from instar.api.base import TrainerParts
from instar.api.callbacks import TrainerState, restore_states, resume_counting
from instar.api.checkpoints import finding, names
from instar.api.checkpoints.plain import read_values
from instar.api.checkpoints.randomness import restore_random_states
from instar.api.checkpoints.weights import load_weights, weight_files
from instar.checkpoint.tensors import read_tensors
from instar.core.errors import CheckpointError
from instar.core.files.json_files import from_json, read_json, to_json
from instar.model.memory import own_memory
from instar.trainer.parallel import group

_log = logging.getLogger(__name__)
_COMPARED = ("logging_steps", "eval_steps", "save_steps")


class Resuming(TrainerParts):
    """Takes back what a checkpoint holds."""

    def _find_checkpoint(self, resume_from_checkpoint: Any) -> str | None:
        """The whole checkpoint to go on from, the same on every process; None to begin anew.

        ValueError where there is none, or the one that was named is damaged.
        """
        if not resume_from_checkpoint:
            return None
        answer = self._look_for_checkpoint(resume_from_checkpoint) if group.rank() == 0 else {}
        answer = from_json(group.from_main(to_json(answer)))
        if answer["error"] is not None:
            raise (TypeError if answer["is_type_error"] else ValueError)(answer["error"])
        return None if answer["found"] is None else str(answer["found"])

    def _look_for_checkpoint(self, resume_from_checkpoint: Any) -> dict[str, Any]:
        try:
            if self.args.should_save:
                finding.sweep(str(self.args.output_dir))
            found = finding.find_checkpoint(resume_from_checkpoint, str(self.args.output_dir))
        except (ValueError, TypeError) as error:
            return {"found": None, "error": str(error), "is_type_error": isinstance(error, TypeError)}
        return {"found": None if found is None else str(found), "error": None}

    def _load_state(self, checkpoint: str) -> TrainerState:
        """The state of a checkpoint, with the intervals of this run; what was saved with other arguments is said."""
        state = TrainerState.load_from_json(Path(checkpoint) / names.STATE)
        best = state.best_model_checkpoint
        if best is not None and not Path(best).is_dir():
            moved = Path(checkpoint).parent / Path(best).name
            state.best_model_checkpoint = str(moved) if moved.is_dir() else None
            if state.best_model_checkpoint is None:
                _log.warning("%s: the best checkpoint of the resumed run is not there any more", best)
        differing = [
            f"{name}: {getattr(self.args, name)} (from args) != {getattr(state, name)} (from {names.STATE})"
            for name in _COMPARED
            if getattr(self.args, name, None) not in (None, getattr(state, name)) and getattr(self.args, name) >= 1
        ]
        if state.train_batch_size not in (None, self.args.train_batch_size):
            differing.append(
                f"per_device_train_batch_size: {self.args.per_device_train_batch_size} (from args) != "
                f"{(state.train_batch_size or 0) // max(1, self.args.n_gpu)} (from {names.STATE})"
            )
        for name in _COMPARED:
            setattr(state, name, getattr(self.state, name))
        if differing:
            _log.warning(
                "%s was saved with other arguments; those of this run count:\n%s", checkpoint, "\n".join(differing)
            )
        return state

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Give the model the weights of a checkpoint; ValueError where the folder holds none."""
        folder = Path(resume_from_checkpoint)
        try:
            weight_files(folder)
        except ValueError as error:
            raise ValueError(f"Can't find a valid checkpoint at {folder}: {error}") from error
        _warn_of_version(folder)
        model = self.model if model is None else model
        self._issue_warnings_after_load(load_weights(model, folder))
        own_memory(model)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Name the weights that only the model or only the checkpoint has."""
        if load_result.missing_keys:
            _log.warning("There were missing keys in the checkpoint model loaded: %s.", load_result.missing_keys)
        if load_result.unexpected_keys:
            _log.warning("There were unexpected keys in the checkpoint model loaded: %s.", load_result.unexpected_keys)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Take back the optimizer, the schedule and the moving average of weights.

        A missing file is a ValueError that names it, but for a checkpoint of the model alone (`save_only_model`):
        then they begin anew, with a warning.
        """
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        missing = [name for name in (names.OPTIMIZER, names.SCHEDULER) if not (folder / name).is_file()]
        if len(missing) == 2 and not list(folder.glob("rng_state*.pth")):
            _log.warning(
                "%s holds the model only (save_only_model): optimizer, schedule and random state begin anew", folder
            )
            return
        if missing:
            raise ValueError(
                f"{folder}: {' and '.join(missing)} missing, so training cannot go on as it was; resume from another "
                "checkpoint, or begin a new run with the weights of this one"
            )
        self._take_optimizer(folder)
        assert self.lr_scheduler is not None
        self.lr_scheduler.load_state_dict(read_values(folder / names.SCHEDULER))
        if self._weight_average is not None:
            self._take_average(folder)

    def _take_optimizer(self, folder: Path) -> None:
        assert self.optimizer is not None
        state = read_values(folder / names.OPTIMIZER)
        options = getattr(self.optimizer, "defaults", {}).keys() & self.optimizer.param_groups[0].keys()
        try:
            if self.runtime.is_sharded:
                self.runtime.load_optimizer_state(self.optimizer, state)
            else:
                self.optimizer.load_state_dict(state)
            lacking = options - self.optimizer.param_groups[0].keys()
            if lacking:
                raise LookupError(f"it has no {', '.join(sorted(lacking))}")
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{folder / names.OPTIMIZER}: is of another optimizer or other parameters than this run's: {error}"
            ) from error

    def _take_average(self, folder: Path) -> None:
        assert self._weight_average is not None
        if not (folder / names.AVERAGE).is_file():
            _log.warning("%s: holds no moving average of weights; it begins with these weights", folder)
            return
        try:
            self._weight_average.load(read_tensors(folder / names.AVERAGE))
        except ValueError as error:
            raise CheckpointError(f"{folder / names.AVERAGE}: is not of this run's weights: {error}") from error

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Take back the scale of fp16's losses, where there is one."""
        if checkpoint is None or not (Path(checkpoint) / names.SCALER).is_file():
            return
        self._scaler.load_state_dict(read_values(Path(checkpoint) / names.SCALER))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Put this process's generators where they were; a folder without its file changes nothing, which is said."""
        if checkpoint is None:
            return
        file = Path(checkpoint) / names.random_state(self.args.process_index, self.args.world_size)
        if not file.is_file():
            _log.warning("%s: is missing, so generators stay as they are", file)
            return
        restore_random_states(read_values(file))

    def _load_callback_state(self) -> None:
        """`restore_callback_states_from_checkpoint` makes callbacks what they were; else early stopping counts on.

        Those that were restored come after the others, as Transformers orders them.
        """
        states = self.state.stateful_callbacks
        if self.args.restore_callback_states_from_checkpoint:
            restore_states([*self.callback_handler.callbacks, self.control], states)
            self.callback_handler.callbacks.sort(key=lambda callback: type(callback).__name__ in states)
        else:
            resume_counting(self.callback_handler.callbacks, states)

    def _load_loop_values(self, checkpoint: str) -> dict[str, Any]:
        """What `_loop_values` gave when the checkpoint was saved; nothing for a checkpoint of Transformers."""
        file = Path(checkpoint) / names.LOOP
        found: dict[str, Any] = read_json(file) if file.is_file() else {}
        return found

    def _load_best_model(self) -> None:
        """Give the model the weights that scored best: their moving average, where scores were of that."""
        best = self.state.best_model_checkpoint
        if best is None or not Path(best).is_dir():
            _log.warning("The best model cannot be loaded: there is no %s", best)
            return
        _log.info("Loading best model from %s (score: %s).", best, self.state.best_metric)
        self._load_from_checkpoint(best)
        if self._weight_average is not None and (Path(best) / names.AVERAGE).is_file():
            self._take_average(Path(best))


def _warn_of_version(folder: Path) -> None:
    """Say that a model was saved by another version of Transformers than the one that trains it now."""
    try:
        saved = read_json(folder / names.CONFIG).get("transformers_version")
    except (CheckpointError, AttributeError):
        return
    from importlib.metadata import version

    if saved is not None and saved != version("transformers"):
        _log.warning("%s: was saved with Transformers %s; here is %s", folder, saved, version("transformers"))
