"""Checkpoints: what is in them, which one is the best, which ones go."""

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from instar.api import traits
from instar.api.callbacks import TrainerState, exported_states, is_exportable, metric_name
from instar.api.checkpoints import finding, names
from instar.api.checkpoints.background import Background
from instar.api.checkpoints.plain import as_bytes, copied, write_values
from instar.api.checkpoints.randomness import random_states
from instar.api.checkpoints.weights import not_finite, save_weights, unwrapped
from instar.api.resuming import Resuming
from instar.checkpoint.protocol import publish
from instar.checkpoint.tensors import write_tensors
from instar.core.errors import DiskError
from instar.core.files.durable import replace_bytes
from instar.core.files.json_files import write_json
from instar.optim.modes import saved_weights
from instar.trainer.parallel import group

_log = logging.getLogger(__name__)
_MOST_FAILURES = 3
_WRITERS = ("save_model", "_save", "_save_optimizer_and_scheduler", "_save_scaler", "_save_rng_state")


class Saving(Resuming):
    """Saves models and checkpoints. A checkpoint appears whole or not at all, whenever the process is killed."""

    _background: Background | None = None
    _failed_saves: int = 0
    _said: frozenset[str] = frozenset()

    # ---- a model ----

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model for `from_pretrained`, with its tokenizer and the arguments; the main process alone writes.

        Where processes hold parts of the model, all must call it.
        """
        self._save(output_dir, self.runtime.weights(self.model) if self.runtime.is_sharded else None)
        if self.args.push_to_hub and not _internal_call:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _save(self, output_dir: str | None = None, state_dict: Mapping[str, Tensor] | None = None) -> None:
        if not self._is_writer():
            return
        folder = Path(str(self.args.output_dir) if output_dir is None else output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(self.model, folder, state_dict)
        reader = self.processing_class
        if reader is None:
            reader = getattr(self.data_collator, "tokenizer", None)
        if hasattr(reader, "save_pretrained"):
            reader.save_pretrained(str(folder))
        elif reader is not None:
            self._say_once(f"{type(reader).__name__} has no save_pretrained, so it is not saved with the model")
        replace_bytes(folder / names.ARGUMENTS, self.args.to_json_string().encode())
        write_values(folder / names.OLD_ARGUMENTS, self.args.to_dict())

    # ---- a checkpoint ----

    def _save_checkpoint(self, model: nn.Module, trial: Any = None) -> None:
        """Publish `checkpoint-<step>` of what is trained, and let old ones go; every process calls this.

        A full disk is told and the next save tries again; the third failure in a row, or one at the end, is a
        DiskError. Weights that are not finite are not published, which is said.
        """
        if self.hp_search_backend is None and trial is None:
            self.store_flos()
        run = self._get_output_dir(trial)
        final = Path(run) / names.checkpoint_name(self.state.global_step)
        in_background = self._writes_in_background()
        if in_background:
            self._settle(self._wait_for_writing())
        self._note_best(run)
        error = None
        with saved_weights(self.optimizer):
            write = self._capture(copies=in_background)
            publishes = self._may_publish()
            if publishes and in_background:
                self._publish_later(final, write)
            elif publishes:
                error = self._publish(final, write)
        if not in_background:
            self._settle(error)
        if self.args.push_to_hub:
            self._settle(self._wait_for_writing())
            if final.is_dir():
                self._push_from_checkpoint(str(final))

    def _capture(self, *, copies: bool) -> Callable[[Path], None]:
        """What puts everything as it is now into a folder; all processes capture, one writes.

        Unless `copies`, it is to be called before the next step. It goes through the methods that a user may have
        overridden, but for copies, and for a model in parts, whose parts all processes must hand over first.
        """
        rest = (self._random_states_of_all(), self._loop_values(), self._state_to_save())
        if not (copies or self.runtime.is_sharded):
            return partial(self._write_by_methods, rest)
        weights = self.runtime.weights(self.model) if self.runtime.is_sharded else unwrapped(self.model).state_dict()
        training = {} if self.args.save_only_model else self._training_values()
        if copies and self._is_writer():
            weights, training = copied((weights, training))
        return partial(self._write_values, weights, training, rest)

    def _write_by_methods(self, rest: tuple[Any, Any, TrainerState], folder: Path) -> None:
        self.save_model(str(folder), _internal_call=True)
        if not self.args.save_only_model:
            self._save_optimizer_and_scheduler(str(folder))
            self._save_scaler(str(folder))
            self._save_rng_state(str(folder))
        _write_rest(folder, *rest)

    def _write_values(
        self,
        weights: Mapping[str, Tensor],
        training: Mapping[str, Any],
        rest: tuple[Any, Any, TrainerState],
        folder: Path,
    ) -> None:
        self._save(str(folder), state_dict=weights)
        _write_training(folder, training)
        _write_rest(folder, *rest)

    def _publish(self, final: Path, write: Callable[[Path], None]) -> DiskError | None:
        best = self.state.best_model_checkpoint
        try:
            if self.args.process_index == 0:
                finding.sweep(final.parent)
            publish(final, write)
            finding.rotate(final.parent, self.args.save_total_limit, best)
        except DiskError as error:
            return error
        return None

    def _publish_later(self, final: Path, write: Callable[[Path], None]) -> None:
        def publish_now() -> None:
            if (error := self._publish(final, write)) is not None:
                raise error

        self._background = self._background or Background()
        self._background.start(publish_now)

    def _may_publish(self) -> bool:
        if not self._is_writer():
            return False
        name = not_finite(self.model)
        if name is not None:
            step = self.state.global_step
            _log.warning("step %d: the weight %s is not finite, so no checkpoint is published", step, name)
        return name is None

    def _is_writer(self) -> bool:
        """True on the main process, or on that of each node; of a model in parts, only the main one has all."""
        return bool(self.args.should_save) and (self.runtime.is_main or not self.runtime.is_sharded)

    def _state_to_save(self) -> TrainerState:
        things = [*self.callback_handler.callbacks, self.control]
        self.state.stateful_callbacks = exported_states(thing for thing in things if is_exportable(thing))
        return replace(cast(Any, self.state), log_history=list(self.state.log_history))

    def _training_values(self) -> dict[str, Any]:
        """What a resumed run needs beside the weights, by file."""
        assert self.optimizer is not None
        in_parts = self.runtime.is_sharded
        state = self.runtime.optimizer_state(self.optimizer) if in_parts else self.optimizer.state_dict()
        found: dict[str, Any] = {names.OPTIMIZER: state}
        if self.lr_scheduler is not None:
            found[names.SCHEDULER] = self.lr_scheduler.state_dict()
        if self._scaler.is_enabled():
            found[names.SCALER] = self._scaler.state_dict()
        if self._weight_average is not None:
            average = self._weight_average.weights
            found[names.AVERAGE] = self.runtime.whole(average) if in_parts else average
        return found

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        values = self._training_values()
        values.pop(names.SCALER, None)
        _write_training(Path(output_dir), values)

    def _save_scaler(self, output_dir: str) -> None:
        if self._scaler.is_enabled():
            _write_training(Path(output_dir), {names.SCALER: self._scaler.state_dict()})

    def _save_rng_state(self, output_dir: str) -> None:
        """Write where this process's generators are into a folder, which is made if it is not there."""
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        rank, world_size = self.args.process_index, self.args.world_size
        write_values(folder / names.random_state(rank, world_size), random_states(all_devices=world_size > 1))

    def _random_states_of_all(self) -> dict[str, bytes]:
        """The content of each file with the random state of a process; of a checkpoint of the model alone, none."""
        if self.args.save_only_model:
            return {}
        world_size = self.args.world_size
        states = group.exchange(as_bytes(random_states(all_devices=world_size > 1)))
        return {names.random_state(rank, world_size): content for rank, content in enumerate(states)}

    def _loop_values(self) -> dict[str, Any]:
        """What the loop carries beside the state, as JSON."""
        return {}

    # ---- failures ----

    def _writes_in_background(self) -> bool:
        if not self.args.async_save:
            return False
        own = [name for name in _WRITERS if not traits.is_own(self, Saving, name)]
        if own:
            self._say_once(f"async_save: {', '.join(own)} are overridden, so checkpoints are written in the step")
        return not own

    def _wait_for_writing(self) -> DiskError | None:
        try:
            if self._background is not None:
                self._background.wait()
        except DiskError as error:
            return error
        return None

    def _settle(self, error: DiskError | None) -> None:
        """Count failures of the disk, on all processes alike, and give up after the third in a row."""
        if not self.runtime.any(error is not None):
            self._failed_saves = 0
            return
        self._failed_saves += 1
        error = error or DiskError(f"step {self.state.global_step}: the main process could not save")
        if self._failed_saves >= _MOST_FAILURES or self.control.should_training_stop:
            raise error
        if self.args.should_save:
            _log.warning("%s; training goes on and the next save tries again", error)

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said |= {text}
            _log.warning("%s", text)

    # ---- the best ----

    def _determine_best_metric(self, metrics: dict[str, Any], trial: Any) -> bool:
        """True if these metrics beat the best so far, which they then are; KeyError if they lack the one that decides.

        Where the best model is to be had at the end, it is saved also between the steps of `save_strategy`.
        """
        args, state = self.args, self.state
        if args.metric_for_best_model is None:
            return False
        name = metric_name(args.metric_for_best_model)
        if name not in metrics:
            raise KeyError(
                f"The `metric_for_best_model` training argument is set to '{name}', which is not found in the "
                f"evaluation metrics. The available evaluation metrics are: {list(metrics)}. Consider changing the "
                "`metric_for_best_model` via the TrainingArguments."
            )
        value, best = metrics[name], state.best_metric
        if math.isnan(value) or (best is not None and not (value > best if args.greater_is_better else value < best)):
            return False
        state.best_metric = value
        if args.save_best or args.save_strategy != "no":
            state.best_global_step = state.global_step
        if (args.load_best_model_at_end or args.save_best) and not self.control.should_save:
            if args.save_strategy != "best":
                self._say_once(
                    "The best model is kept: a checkpoint is saved at each evaluation that beats the ones before, "
                    "beside those of save_strategy"
                )
            self.control.should_save = True
        return True

    def _note_best(self, run: str) -> None:
        """Name the checkpoint of the best step, where it is saved now or was before."""
        step = self.state.best_global_step
        if step:
            best = os.path.join(run, names.checkpoint_name(step))  # noqa: PTH118 - "./x" stays as the user wrote it
            if step == self.state.global_step or Path(best).is_dir():
                self.state.best_model_checkpoint = best

    # ---- places ----

    def _get_output_dir(self, trial: Any) -> str:
        """The run folder: `output_dir`, or that of a trial in it."""
        output_dir = str(self.args.output_dir)
        if self.hp_search_backend is None or trial is None:
            return output_dir
        name = self.hp_name(trial) if self.hp_name is not None else f"run-{_trial_id(self.hp_search_backend, trial)}"
        return str(Path(output_dir) / name)

    def _sorted_checkpoints(
        self, output_dir: str | None = None, checkpoint_prefix: str = names.PREFIX, use_mtime: bool = False
    ) -> list[str]:
        """Checkpoints of a run in the order in which they may go: by step, the best last but one; no clock."""
        run = str(self.args.output_dir) if output_dir is None else output_dir
        return [str(folder) for folder in finding.in_order(run, self.state.best_model_checkpoint)]

    def _rotate_checkpoints(self, use_mtime: bool = False, output_dir: str | None = None) -> None:
        """Delete all but `save_total_limit` checkpoints; the best and the newest stay."""
        run = str(self.args.output_dir) if output_dir is None else output_dir
        finding.rotate(run, self.args.save_total_limit, self.state.best_model_checkpoint)

    def _finish_saving(self, trial: Any = None) -> None:
        """Wait for what is being written, raising what went wrong there; of a run that keeps one, leave the best."""
        if self._background is not None:
            self._background.wait()
        best = self.state.best_model_checkpoint
        if self.args.should_save and best is not None and self.args.save_total_limit == 1:
            finding.keep_best_alone(self._get_output_dir(trial), best)


def _write_training(folder: Path, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if name == names.AVERAGE:
            write_tensors(folder / name, value)
        else:
            write_values(folder / name, value)


def _write_rest(folder: Path, random: Mapping[str, bytes], loop: Mapping[str, Any], state: TrainerState) -> None:
    """The state goes last: in a folder of Transformers' too, it says that the rest is there."""
    for name, content in random.items():
        if not (folder / name).exists():
            replace_bytes(folder / name, content)
    write_json(folder / names.LOOP, dict(loop))
    state.save_to_json(folder / names.STATE)


def _trial_id(backend: Any, trial: Any) -> Any:
    if backend == "ray":
        from ray import tune

        return tune.get_context().get_trial_id()
    if backend == "wandb":
        import wandb

        return wandb.run.id
    return trial.number
