"""A search whose trials are runs of the real W&B, offline: writes what came of it to `found.json` of a folder."""

import json
import sys
from pathlib import Path
from typing import Any

import wandb

from tests.api.search_parts import make

RATES = (0.001, 0.1)


def agent(sweep: str, function: Any, count: int, **place: Any) -> None:
    """What W&B's server does, which cannot be reached offline: hand each trial its values."""
    assert (sweep, place) == ("sweep-1", {})
    for number in range(count):
        wandb.init(config={"learning_rate": RATES[number]})
        function()
        wandb.finish()


def main(folder: str) -> None:
    """Two trials; the second learns more."""
    wandb.sweep, wandb.agent = lambda config, project, entity: "sweep-1", agent
    space = {"method": "random", "parameters": {"learning_rate": {"values": list(RATES)}}}
    trainer = make(Path(folder) / "out")
    best = trainer.hyperparameter_search(space, lambda metrics: metrics["loss"], n_trials=2, backend="wandb")
    values = {"run_id": best.run_id, "hyperparameters": best.hyperparameters, "sweep": best.run_summary}
    (Path(folder) / "found.json").write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
