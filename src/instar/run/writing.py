"""Rows of answers on the disk."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def write_rows(output: Path, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Write each row as a line of JSON and hand it on; the file has its name when all are there, else it is gone."""
    temporary = output.with_name(f".tmp-{output.name}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                yield row
        temporary.rename(output)
    finally:
        temporary.unlink(missing_ok=True)
