"""A search on a local Ray, in a process of its own: writes what came of it to `found.json` of a folder."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from tests.api.evaluation_parts import Line
from tests.api.search_parts import make

KILLED, PRUNED = 0.4, 0.001


class Prune(FIFOScheduler):  # type: ignore[misc]
    """Ends a trial at its first report if its rate is the one to be pruned."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
        del tune_controller, result
        ends: str = self.STOP if trial.config["learning_rate"] == PRUNED else self.CONTINUE
        return ends


def model_init_in(folder: str) -> Any:
    """Models that say which process makes them; the first two wait for each other, and one kills its process, once."""

    def model_init(trial: Any = None) -> Line:
        if trial is None:
            return Line(a=0.0, b=0.0)
        begun = Path(folder) / "begun"
        (begun / str(os.getpid())).touch()
        deadline = time.monotonic() + 300
        while len(list(begun.iterdir())) < 2:
            if time.monotonic() > deadline:
                raise TimeoutError("no second trial began beside the first")
            time.sleep(0.05)
        mark = Path(folder) / "killed"
        if trial["learning_rate"] == KILLED and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Line(a=0.0, b=0.0)

    return model_init


def main(folder: str) -> None:
    """Four trials on two processors: one is pruned, one is killed and tried again."""
    (Path(folder) / "begun").mkdir(parents=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    trainer = make(Path(folder) / "out", model_init=model_init_in(folder), skip_memory_metrics=False)
    best = trainer.hyperparameter_search(
        {"learning_rate": tune.grid_search([PRUNED, 0.05, 0.1, KILLED])},
        lambda metrics: metrics["loss"],
        n_trials=1,
        backend="ray",
        scheduler=Prune(),
        max_failures=1,
        storage_path=str(Path(folder) / "ray"),
        verbose=0,
    )
    found = {
        "best": [best.run_id, best.objective, best.hyperparameters],
        "trials": [
            [trial.trial_id, trial.status, trial.config["learning_rate"], trial.num_failures,
             trial.last_result["training_iteration"], trial.last_result["objective"]]
            for trial in best.run_summary.trials
        ],
        "processes": len(list((Path(folder) / "begun").iterdir())),
        "learning_rate": trainer.args.learning_rate,
        "measures memory": not trainer._memory_tracker.skip_memory_metrics,
    }  # fmt: skip
    (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
