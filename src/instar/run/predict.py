"""`predict`: what a checkpoint says about a file."""

import json
from pathlib import Path
from typing import Any

from instar.checkpoint.disk import disk_errors
from instar.core.errors import OutputError
from instar.inference.predict import Predictor
from instar.run.saved import Saved, take_up
from instar.run.source import source_like


def predict(checkpoint: Path, *, input_file: Path, output: Path) -> dict[str, Any]:
    """Write one JSON object a line, one for each document of the file, in order; returns what was done.

    The output is there whole or not at all.
    """
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another --output, or delete it")
    saved = take_up(checkpoint)
    source = source_like(saved.config.data.train, input_file, labelled=False)
    documents = (document.text.upper() if source.folds_case else document.text for document in source.documents())
    counts = {"rows": 0, "skipped": 0, "truncated": 0}
    temporary = output.with_name(f".tmp-{output.name}")
    with disk_errors(output):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                for row in _predictor(saved).rows(documents):
                    counts["rows"] += 1
                    counts["skipped"] += "skipped" in row
                    counts["truncated"] += "truncated" in row
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            temporary.rename(output)
        finally:
            temporary.unlink(missing_ok=True)
    return {"output": str(output), **counts}


def _predictor(saved: Saved) -> Predictor:
    lengths = [length for length in (saved.config.data.max_length, saved.network.max_length) if length is not None]
    return Predictor(
        network=saved.network,
        task=saved.task,
        tokenizer=saved.tokenizer,
        device=saved.runtime.device,
        label_names=saved.labels.names,
        label_kind=saved.labels.kind,
        max_length=min(lengths, default=None),
    )
