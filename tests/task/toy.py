"""A task that instar does not have, in one file: predict how many tokens of a document are like its first.

`python toy.py FOLDER` adds it to the union of tasks, as one entry of `task/__init__.py` would, and lives a run's life.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

import torch
from pydantic import Field
from rich.text import Text

import instar.task
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Answer, Ids, Row, StepContext, TaskLike
from instar.inference.evaluate import Evaluator
from instar.inference.predict import Predictor
from instar.inference.preview import Preview
from instar.model import Head
from instar.task.base import FixedTask, TaskConfig


class Repeats(TaskConfig):
    """Predict how many tokens of a document are like its first."""

    head: ClassVar[Head] = "classify"
    does: ClassVar[str] = "counts"
    kind: Literal["repeats"] = "repeats"
    scale: float = 1.0

    def build(self, tokenizer: Tokenizer) -> TaskLike:
        del tokenizer
        return RepeatsTask(self.scale)

    def num_outputs(self, of_labels: int | None) -> int | None:
        del of_labels
        return 1

    def score_names(self, label_kind: str) -> tuple[str, ...]:
        del label_kind
        return ("loss", "furthest")


class RepeatsAnswer:
    context: None = None

    def scores(self, evaluator: Evaluator, batches: Iterable[Batch]) -> dict[str, Any]:
        total = furthest = 0.0
        count = 0
        for prepared, outputs in evaluator.passes(batches):
            off = (outputs.logits_MV()[:, 0] - prepared.target_M).abs()
            total, count, furthest = total + float((off**2).sum()), count + len(off), max(furthest, float(off.max()))
        return {"loss": total / count, "furthest": furthest, "counted": count}

    def preview(self, preview: Preview, batch: Batch) -> Iterator[Row]:
        for one in preview.each(batch):
            prepared = preview.task.prepare(one, StepContext.of_evaluation(preview.seed)).to(preview.device)
            found = float(preview.network(prepared).logits_MV()[0, 0])
            yield {"kind": "repeats", "repeats": float(prepared.target_M[0]), "guess": round(found, 2)}

    def line(self, row: Mapping[str, Any]) -> Text:
        return Text(f"  {row['repeats']} repeats, guessed {row['guess']}")

    def targets(self, one: Batch, tokenizer: Tokenizer, names: Sequence[str] | None, most: int) -> Any:
        return float(one.target_M[0])

    def special_tokens(self, predictor: Predictor) -> Ids:
        return predictor.around_text()

    def segments(self, text: str) -> list[str]:
        return [text]

    def answers(self, predictor: Predictor, batch: Batch) -> Iterator[Row]:
        for logits_C in predictor.network(batch.to(predictor.device)).logits_MV():
            yield {"repeats": float(logits_C[0])}


class RepeatsTask(FixedTask):
    head: Head = "classify"
    answer: Answer = RepeatsAnswer()

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def prepare(self, batch: Batch, context: StepContext) -> Batch:
        first_D = torch.tensor(batch.boundaries[:-1], dtype=torch.int64)
        texts = [one[1:] for one in batch.ids_T.split(list(batch.lengths))]  # [CLS] stands first
        target_D = torch.tensor([float((one == one[0]).sum()) for one in texts])
        return replace(batch, read_M=first_D, target_M=target_D * self.scale)


def live(folder: Path) -> dict[str, Any]:
    """Train, resume, evaluate, predict, preview, check and report."""
    known = get_args(instar.task.Task)[0]
    instar.task.Task = Annotated[known | Repeats, Field(discriminator="kind")]  # type: ignore[misc, valid-type]
    from instar.run.check import check
    from instar.run.train import train
    from instar.use.evaluate import evaluate
    from instar.use.predict import predict
    from instar.use.report import report

    (folder / "lines.txt").write_text("".join(f"{'ab' * (n % 5)}{'a' * (n % 3)}b\n" for n in range(60)))
    (folder / "run.yaml").write_text(
        "model: {config: bert, num_layers: 1, hidden_size: 16, num_heads: 2, max_length: 20, dropout: 0.0}\n"
        "tokenizer: {kind: character}\ntask: {kind: repeats, scale: 0.5}\n"
        f"data: {{train: {{kind: text, path: {folder}/lines.txt, documents: line}}, eval: {{split: 0.2}},"
        f" max_length: 20, too_long: truncate, cache: {folder}/cache}}\n"
        'train: {budget: "12 steps", batch_samples: 8, log_every: 2, eval_every: "6 steps", save_every: "6 steps",'
        " best_metric: loss, schedule: {kind: constant}, optimizer: {kind: adamw, lr: 5e-3}}\n"
    )
    checked = check(folder / "run.yaml")
    whole = train(folder / "run.yaml", output=folder / "whole")
    train(folder / "run.yaml", ["train.budget=6 steps"], output=folder / "again")
    again = train(folder / "run.yaml", output=folder / "again")
    scores = evaluate(Path(whole["checkpoint"]))
    predict(Path(whole["checkpoint"]), input_file=folder / "lines.txt", output=folder / "rows.jsonl")
    return {
        "targets": checked["samples"][0]["targets"],
        "whole": whole,
        "again": again,
        "scores": scores,
        "rows": [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()],
        "samples": [json.loads(line) for line in (folder / "whole" / "samples.jsonl").read_text().splitlines()],
        "page": report(folder / "whole").read_text(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(live(Path(sys.argv[1]))))
