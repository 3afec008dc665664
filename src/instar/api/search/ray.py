"""A search with Ray Tune."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from instar.api.memory import TrainerMemoryTracker
from instar.api.search.base import SearchBackend, best_of, release, run_trial
from instar.api.search.spaces import BATCH_SIZES

_NEED_REPORTS = (
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "MedianStoppingRule",
    "HyperBandForBOHB",
    "PopulationBasedTraining",
)


class RaySearch(SearchBackend):
    """Trials in processes of Ray, each with a copy of the trainer."""

    package: ClassVar[str] = "ray"
    install: ClassVar[str] = "pip install 'ray[tune]'"

    def default_space(self, trial: Any) -> dict[str, Any]:
        from ray import tune

        return {
            "learning_rate": tune.loguniform(1e-6, 1e-4),
            "num_train_epochs": tune.choice([1, 2, 3, 4, 5]),
            "seed": tune.randint(1, 41),
            "per_device_train_batch_size": tune.choice(BATCH_SIZES),
        }

    def space_of(self, values: Mapping[str, Any], trial: Any) -> dict[str, Any]:
        return dict(values)

    def parameters(self, trainer: Any, trial: Any) -> dict[str, Any]:
        return {name: value for name, value in trial.items() if name != "wandb"}

    def run(self, trainer: Any, n_trials: int | None, direction: str | list[str], **options: Any) -> Any:
        """Options are those of `ray.tune.run`; a trial gets one CPU, and one GPU if there is any, unless told."""
        import ray.tune

        if not isinstance(direction, str):
            raise ValueError("Ray Tune looks for one objective: direction is 'minimize' or 'maximize'")
        has_gpu = trainer.args.n_gpu > 0
        options.setdefault("resources_per_trial", {"cpu": 1, "gpu": 1} if has_gpu else {"cpu": 1})
        scheduler = type(options.get("scheduler")).__name__
        if scheduler in _NEED_REPORTS and trainer.args.eval_strategy == "no":
            raise RuntimeError(
                f"{scheduler} compares trials while they run, and nothing is evaluated then; set eval_strategy='steps'"
            )
        space = trainer.hp_space(None)
        release(trainer)
        with _sendable(trainer):
            task = ray.tune.with_parameters(_trial, local_trainer=trainer)
            analysis = ray.tune.run(task, config=space, num_samples=n_trials, **options)
        scope = getattr(trainer.args, "ray_scope", None) or os.environ.get("RAY_SCOPE", "last")
        best = analysis.get_best_trial(metric="objective", mode=direction[:3], scope=scope)
        if best is None:
            raise RuntimeError(f"no trial has an objective: {', '.join(map(_said, analysis.trials))}")
        return best_of(best.trial_id, best.last_result["objective"], best.config, analysis)

    def report(self, trainer: Any, trial: Any, step: int, metrics: Mapping[str, Any]) -> None:
        _report(trainer, metrics, with_checkpoint=trainer.control.should_save)


def _trial(trial: dict[str, Any], local_trainer: Any) -> None:
    import ray.tune

    trainer = local_trainer
    start = ray.tune.get_checkpoint()
    if start is not None:
        with start.as_directory() as folder:
            checkpoint = next(Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}*")).as_posix()
            run_trial(trainer, trial, checkpoint)
        return
    metrics = run_trial(trainer, trial)
    if metrics is not None:
        _report(trainer, {**metrics, "done": True}, with_checkpoint=True)


def _report(trainer: Any, metrics: Mapping[str, Any], *, with_checkpoint: bool) -> None:
    import ray.tune

    told = {**metrics, "objective": trainer.objective}
    if not with_checkpoint:
        ray.tune.report(told, checkpoint=None)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"{PREFIX_CHECKPOINT_DIR}-{trainer.state.global_step}"
        trainer._tune_save_checkpoint(str(place))
        ray.tune.report(told, checkpoint=ray.tune.Checkpoint.from_directory(folder))


@contextmanager
def _sendable(trainer: Any) -> Iterator[None]:
    """The trainer within as it can be sent to processes: without writers of events, threads or an `accelerator`."""
    tracker, accelerator, callbacks = trainer._memory_tracker, trainer._accelerator, trainer.callback_handler.callbacks
    trainer._memory_tracker, trainer._accelerator = TrainerMemoryTracker(skip_memory_metrics=True), None
    trainer.callback_handler.callbacks = [one for one in callbacks if type(one).__name__ != "TensorBoardCallback"]
    try:
        yield
    finally:
        trainer._memory_tracker, trainer._accelerator = tracker, accelerator
        trainer.callback_handler.callbacks = callbacks


def _said(trial: Any) -> str:
    return f"trial {trial.trial_id}: {trial.status}"
