"""A search with sweeps of Weights & Biases."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from instar.api.search.base import SearchBackend, best_of, run_trial
from instar.api.search.spaces import BATCH_SIZES

_log = logging.getLogger(__name__)


class WandbSearch(SearchBackend):
    """Trials that an agent of W&B starts one after another in this process."""

    package: ClassVar[str] = "wandb"
    install: ClassVar[str] = "pip install wandb"

    def default_space(self, trial: Any) -> dict[str, Any]:
        return {
            "method": "random",
            "metric": {"name": "objective", "goal": "minimize"},
            "parameters": {
                "learning_rate": {"distribution": "uniform", "min": 1e-6, "max": 1e-4},
                "num_train_epochs": {"distribution": "int_uniform", "min": 1, "max": 6},
                "seed": {"distribution": "int_uniform", "min": 1, "max": 40},
                "per_device_train_batch_size": {"values": BATCH_SIZES},
            },
        }

    def space_of(self, values: Mapping[str, Any], trial: Any) -> dict[str, Any]:
        return dict(values)

    def parameters(self, trainer: Any, trial: Any) -> dict[str, Any]:
        return {name: value for name, value in trial.items() if name not in ("assignments", "metric")}

    def run(self, trainer: Any, n_trials: int | None, direction: str | list[str], **options: Any) -> Any:
        """Options: `sweep_id` (to go on with one), `project`, `entity`, `name`, `metric` (default `eval/loss`)."""
        import wandb

        if not isinstance(direction, str):
            raise ValueError("a sweep of W&B looks for one objective: direction is 'minimize' or 'maximize'")
        wanted = {name: options.pop(name, None) for name in ("sweep_id", "project", "name", "entity")}
        metric = options.pop("metric", "eval/loss")
        if options:
            raise TypeError(
                f"the wandb backend knows sweep_id, project, name, entity and metric; got {sorted(options)}"
            )
        _attach(trainer)
        best: dict[str, Any] = {}

        def trial() -> Any:
            run = wandb.run or wandb.init()
            run.config.update({"assignments": {}, "metric": metric})
            values = self.parameters(trainer, dict(wandb.config))
            trainer.state.trial_name = run.name
            run_trial(trainer, values)
            objective = trainer.objective
            sign = -1 if direction == "minimize" else 1
            if not best or sign * objective > sign * best["objective"]:
                logged = wandb.run or run  # the callback of W&B begins a run of its own for a trial
                best.update(run_id=logged.id, objective=objective, parameters=values)
            return objective

        sweep = wanted["sweep_id"] or _make_sweep(trainer, direction, metric, wanted)
        place = {name: wanted[name] for name in ("project", "entity") if wanted[name] is not None}
        wandb.agent(sweep, function=trial, count=n_trials, **place)
        if not best:
            raise RuntimeError(f"no trial of the sweep {sweep} was run to its end")
        return best_of(best["run_id"], best["objective"], best["parameters"], sweep)

    def report(self, trainer: Any, trial: Any, step: int, metrics: Mapping[str, Any]) -> None:
        """W&B reads what its callback logs."""


def _make_sweep(trainer: Any, direction: str, metric: str, wanted: Mapping[str, Any]) -> Any:
    import wandb

    config = dict(trainer.hp_space(None))
    config["metric"] = {**config.get("metric", {}), "goal": direction, "name": metric}
    if wanted["name"]:
        config["name"] = wanted["name"]
    return wandb.sweep(config, project=wanted["project"], entity=wanted["entity"])


def _attach(trainer: Any) -> None:
    from transformers.integrations import WandbCallback

    if not any(isinstance(callback, WandbCallback) for callback in trainer.callback_handler.callbacks):
        trainer.add_callback(WandbCallback())
    trainer.args.report_to = ["wandb"]
