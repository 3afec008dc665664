"""A Trainer whose searches take milliseconds, and a process of its own that runs one."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.api.evaluation_parts import Line, LineData


def model_init(trial: Any = None) -> Line:
    return Line(a=0.0, b=0.0)


def accuracy(seen: Any) -> dict[str, float]:
    """The share of rows that are predicted within 1: learning rates from 0.05 to 0.5 find the line."""
    predictions, labels = seen
    return {"validation/accuracy": float((np.abs(predictions - labels) < 1).mean())}


def make(folder: Path, **options: Any) -> Any:
    from instar import Trainer, TrainingArguments

    passed = {"model_init": model_init, "compute_metrics": accuracy}
    passed |= {name: options.pop(name) for name in ("model_init", "compute_metrics", "callbacks") if name in options}
    settings: dict[str, Any] = {
        "num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 0.01, "optim": "sgd",
        "eval_strategy": "epoch", "save_strategy": "no", "report_to": "none", "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    args = TrainingArguments(str(folder), **(settings | options))
    return Trainer(args=args, train_dataset=LineData(16), eval_dataset=LineData(8), **passed)


def learning_rates(trial: Any) -> dict[str, Any]:
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.5, log=True)}


def main(folder: str, n_trials: str, seconds: str) -> None:
    """A search in a journal, each of whose trials takes a while; says the number of each as it begins."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def slow_space(trial: Any) -> dict[str, Any]:
        values = learning_rates(trial)
        sys.stdout.write(f"trial {trial.number}\n")
        sys.stdout.flush()
        time.sleep(float(seconds))
        return values

    make(Path(folder)).hyperparameter_search(slow_space, n_trials=int(n_trials), backend="optuna", storage="journal")


if __name__ == "__main__":
    main(*sys.argv[1:])
