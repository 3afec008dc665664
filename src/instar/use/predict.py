"""`predict`: predictions of a checkpoint for a file, or about a split of its run's data."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from instar.core.errors import OutputError, UsageError
from instar.core.files.disk import disk_errors
from instar.data.config import Split
from instar.data.document import Document
from instar.data.source import Source
from instar.inference.division import Row
from instar.inference.predict import Predictor
from instar.run.corpus import layout_of
from instar.run.division import divided, division, must_be_alike
from instar.run.rows import Answers
from instar.run.saved import Ready, Saved, take_up
from instar.run.source import WHOLE, Part, source_like, withholds_labels
from instar.use.evaluate import SplitName, scores_of
from instar.use.external import take_up_any
from instar.use.writing import write_rows


@divided
def predict(
    checkpoint: Path, *, input_file: Path, output: Path, part: Part = WHOLE, allow_unknown: bool = False
) -> dict[str, Any]:
    """Write one JSON object a line, one for each document of (a part of) the file, in order; returns what was done.

    The output is there whole or not at all. DataError if most tokens are unknown, unless `allow_unknown`.
    Processes divide the batches.
    """
    must_be_new(output)
    ready = take_up_any(checkpoint)
    must_be_alike(ready)
    source = part.of(source_like(ready.source, input_file, labelled=False))
    answers, rows = _written(ready, source, output, allow_unknown=allow_unknown or allows_unknown(ready))
    deque(rows, maxlen=0)
    return {"output": str(output), **answers.facts()}


@divided
def predict_split(checkpoint: Path, *, split: SplitName, output: Path, allow_unknown: bool = False) -> dict[str, Any]:
    """The same for all documents of a split of a classifier's run, each once, with their labels; then the scores.

    Where the labels are withheld (the column is not named, or holds -1) there are no scores: a table of (index,
    prediction), as benchmarks take them, is written beside the output, with the ending .submission.tsv.
    """
    submission = output.with_suffix(".submission.tsv")
    must_be_new(output)
    saved = take_up(checkpoint)
    must_be_alike(saved)
    if not saved.config.task.learns_labels:
        raise UsageError(
            f"{checkpoint}: its task is {saved.config.task.kind}; only those of a classifier have a prediction each; "
            "`instar evaluate` scores this one"
        )
    data = saved.config.data
    source = data.eval if split == "eval" else data.test
    if source is None or isinstance(source, Split):
        where = "is held out of data.train" if isinstance(source, Split) else "is not set"
        raise UsageError(f"{checkpoint}: its run's data.{split} {where}; name a file with --input")
    allow_unknown = allow_unknown or allows_unknown(saved)
    is_withheld = withholds_labels(source, saved.labels.names)
    if is_withheld:
        must_be_new(submission)
    answers, rows = _written(saved, source, output, allow_unknown=allow_unknown)
    if not is_withheld:
        deque(rows, maxlen=0)
        scores = scores_of(checkpoint, split=split, allow_unknown=allow_unknown)
        return {**scores, "output": str(output), **answers.facts()}
    held = list(rows)
    if division().is_main:
        with disk_errors(submission):
            _write_submission(submission, held)
    return {"output": str(output), "submission": str(submission), "split": split, **answers.facts()}


def allows_unknown(ready: Ready) -> bool:
    """Whether the run of a checkpoint allows any share of unknown tokens."""
    return isinstance(ready, Saved) and ready.config.data.allow_unknown_tokens


def must_be_new(output: Path) -> None:
    """OutputError if the file is there already; the main process looks, which is the one that makes it."""
    if division().is_main and output.exists():
        raise OutputError(f"{output}: exists already; choose another --output")


def predictor_of(ready: Ready, *, best: int = 5) -> Predictor:
    """What answers about texts with a model."""
    return Predictor(
        network=ready.network,
        task=ready.task,
        tokenizer=ready.tokenizer,
        device=ready.runtime.device,
        label_names=ready.labels.names,
        label_kind=ready.labels.kind,
        max_length=ready.max_length,
        reads_forward=isinstance(ready, Saved) and layout_of(ready.config, ready.network) == "decoder",
        marks=None if isinstance(ready, Saved) else ready.tokenizer.marks,
        best=best,
        division=division(),
    )


def _written(ready: Ready, source: Source, output: Path, *, allow_unknown: bool) -> tuple[Answers, Iterator[Row]]:
    """Rows as they are written, each with the label of its document where it has one."""
    predictor = predictor_of(ready)
    answers = Answers(source, ready.tokenizer, predictor.count, allow_unknown=allow_unknown)
    rows = answers.rows(predictor.rows, label=lambda document: _label(document, ready))
    return answers, _on_disk(output, rows) if division().is_main else rows


def _on_disk(output: Path, rows: Iterator[Row]) -> Iterator[Row]:
    with disk_errors(output):
        yield from write_rows(output, rows)


def _label(document: Document, ready: Ready) -> Any:
    """What a document's label is; None where it has none, or one that is withheld."""
    label, names = document.label, ready.labels.names
    if isinstance(label, str):
        return label if names is None or label in names else None
    if not isinstance(label, tuple):
        return label
    if label and isinstance(label[0], bool):
        return [name for name, flag in zip(names or map(str, range(len(label))), label, strict=False) if flag]
    return list(label)


def _write_submission(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "prediction"))
        for row in rows:
            prediction = row.get("prediction", "")
            writer.writerow((row["row"], ",".join(prediction) if isinstance(prediction, list) else prediction))
