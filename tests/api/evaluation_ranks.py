"""One rank of an evaluation: writes what it saw to `rank-<n>.json` of a folder."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

from tests.api.evaluation_parts import Line, LineData, WordData, Words, pad


class Stream(IterableDataset[Any]):
    """Rows of a data set, one after another, of a number that nobody knows before."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows[place] for place in range(len(self.rows)))


def evaluate(folder: Path) -> dict[str, Any]:
    """Losses, predictions and metrics of uneven data, padded batches, streams and metrics by batch."""
    from instar import Trainer, TrainingArguments

    def trainer(model: Any, **options: Any) -> Any:
        passed = {name: options.pop(name) for name in ("data_collator", "compute_metrics") if name in options}
        args = TrainingArguments(
            str(folder), use_cpu=True, report_to="none", disable_tqdm=True, per_device_eval_batch_size=4, **options
        )
        return Trainer(model, args, **passed)

    torch.manual_seed(0)
    words, found = WordData(21, ragged=True), {}
    model = Words()
    output = trainer(model, data_collator=pad, include_for_metrics=["loss"]).predict(
        words, ignore_keys=["hidden_states"]
    )
    rows = [output.predictions[place, : len(ids), 0].tolist() for place, ids in enumerate(words.ids)]
    found["words"] = [output.metrics["test_loss"], rows, output.label_ids.tolist()]
    seen: list[int] = []

    def by_batch(prediction: Any, *, compute_result: bool) -> dict[str, float]:
        seen.append(len(prediction.predictions))
        return {"rows": float(sum(seen))} if compute_result else {}

    for name, data in (("line", LineData(9)), ("stream", Stream(LineData(9))), ("one", LineData(1))):
        output = trainer(Line()).predict(data)
        found[name] = [output.metrics["test_loss"], output.predictions.tolist()]
    metrics = trainer(Line(), compute_metrics=by_batch, batch_eval_metrics=True).predict(LineData(9)).metrics
    found["batches"] = metrics["test_rows"]

    def losses(prediction: Any) -> dict[str, float]:
        return {"losses": len(prediction.losses), "loss_of_rows": float(prediction.losses.mean())}

    last = trainer(Line(), compute_metrics=losses, include_for_metrics=["loss", "inputs"])
    metrics = last.predict(LineData(16)).metrics
    found["losses"] = [metrics["test_losses"], metrics["test_loss_of_rows"]]
    return found


def search(folder: Path) -> list[Any]:
    """[states of trials, or None where another rank keeps them; the weights of the last trial]."""
    import optuna

    from tests.api.search_parts import learning_rates, make

    class Impatient(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            return bool(trial.number == 1)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trainer = make(folder)
    best: Any = trainer.hyperparameter_search(learning_rates, n_trials=3, pruner=Impatient())
    weights = [parameter.item() for parameter in trainer.model.parameters()]
    trainer.end()
    return [best and [trial.state.name for trial in best.run_summary.trials], weights]


def main(folder: str) -> None:
    found = evaluate(Path(folder)) | {"search": search(Path(folder))}
    Path(folder, f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
