"""`predict`: what a checkpoint says about a file, or about a split of its run's data."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from instar.checkpoint.disk import disk_errors
from instar.core.errors import OutputError, UsageError
from instar.data.config import Split
from instar.data.document import Document
from instar.data.source import Source
from instar.inference.predict import Predictor, Row
from instar.run.corpus import layout_of
from instar.run.evaluate import SplitName, evaluate
from instar.run.foreign import take_up_any
from instar.run.saved import Ready, Saved, take_up
from instar.run.source import hides_labels, source_like
from instar.run.writing import write_rows


def predict(checkpoint: Path, *, input_file: Path, output: Path) -> dict[str, Any]:
    """Write one JSON object a line, one for each document of the file, in order; returns what was done.

    The output is there whole or not at all.
    """
    must_be_new(output)
    ready = take_up_any(checkpoint)
    source = source_like(ready.source, input_file, labelled=False)
    return {"output": str(output), **_counted(_written(ready, source, output))}


def predict_split(checkpoint: Path, *, split: SplitName, output: Path) -> dict[str, Any]:
    """The same for all documents of a split of a classifier's run, each once, with their labels; then the scores.

    Where the labels are hidden (the column is not named, or holds -1) there are no scores: a table of (index,
    prediction), as benchmarks take them, is written beside the output, with the ending .submission.tsv.
    """
    submission = output.with_suffix(".submission.tsv")
    must_be_new(output)
    saved = take_up(checkpoint)
    if saved.task.answer != "label":
        raise UsageError(
            f"{checkpoint}: its task is {saved.config.task.kind}; only those of a classifier have a prediction each; "
            "`instar evaluate` scores this one"
        )
    data = saved.config.data
    source = data.eval if split == "eval" else data.test
    if source is None or isinstance(source, Split):
        where = "is held out of data.train" if isinstance(source, Split) else "is not set"
        raise UsageError(f"{checkpoint}: its run's data.{split} {where}; name a file with --input")
    if not hides_labels(source, saved.labels.names):
        counts = _counted(_written(saved, source, output))
        scores = evaluate(checkpoint, split=split)
        return {**scores, "output": str(output), **counts}
    must_be_new(submission)
    rows: list[Row] = []
    counts = _counted(_kept(_written(saved, source, output), rows))
    with disk_errors(submission):
        _write_submission(submission, rows)
    return {"output": str(output), "submission": str(submission), "split": split, **counts}


def must_be_new(output: Path) -> None:
    """OutputError if the file is there already."""
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another --output, or delete it")


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
    )


def _written(ready: Ready, source: Source, output: Path) -> Iterator[Row]:
    """Rows as they are written, each with the label of its document where it has one."""
    labels: list[Any] = []

    def texts() -> Iterator[str]:
        for document in source.documents():
            labels.append(_label(document, ready))
            yield document.text.upper() if source.folds_case else document.text

    answers = predictor_of(ready).rows(texts())
    rows = (row if labels[row["row"]] is None else {**row, "label": labels[row["row"]]} for row in answers)
    with disk_errors(output):
        yield from write_rows(output, rows)


def _label(document: Document, ready: Ready) -> Any:
    """What a document's label is; None where it has none, or a hidden one."""
    label = document.label
    if isinstance(label, str) and ready.labels.names is not None and label not in ready.labels.names:
        return None
    return list(label) if isinstance(label, tuple) else label


def _kept(rows: Iterable[Row], held: list[Row]) -> Iterator[Row]:
    for row in rows:
        held.append(row)
        yield row


def _counted(rows: Iterable[Row]) -> dict[str, int]:
    counts = {"rows": 0, "skipped": 0, "truncated": 0}
    for row in rows:
        counts["rows"] += 1
        counts["skipped"] += "skipped" in row
        counts["truncated"] += "truncated" in row
    return counts


def _write_submission(path: Path, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("index", "prediction"))
        for row in rows:
            said = row.get("prediction", "")
            writer.writerow((row["row"], ",".join(said) if isinstance(said, list) else said))
