"""JSON lines: one object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from instar.core.errors import DataError
from instar.core.files.reading import lines
from instar.data.document import Document
from instar.data.source.base import ColumnSource, Reading


class JsonLines(ColumnSource):
    """One JSON object a line, plain, gzip or Zstandard; blank lines are passed over."""

    endings: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    kind: Literal["jsonl"] = "jsonl"

    def documents(self) -> Iterator[Document]:
        reading = Reading(self)
        for path in self.files():
            is_first = True
            for number, line in lines(path):
                if not line.strip():
                    continue
                if is_first:
                    _refuse_one_value(path, number, line)
                is_first = False
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        reading.faults.add(
                            f'{where}: wanted a JSON object like {{"{self.text}": "..."}}; got {line[:60]}'
                        )
                        continue
                except RecursionError:
                    reading.faults.add(f"{where}: nested too deeply")
                    continue
                except ValueError as error:
                    reading.faults.add(f"{where}: {error}")
                    continue
                document = reading.document(row, path, number)
                if document is not None:
                    yield document
        reading.finish()


def _refuse_one_value(path: Path, number: int, line: str) -> None:
    """DataError where a file's first line shows that it is one JSON value, written over several lines or in one."""
    start = line.strip()
    is_array = start == "[" or (start.startswith("[") and start[1:].lstrip().startswith("{"))
    if is_array:
        raise DataError(
            f"{path}:{number}: the file is one JSON array, and one JSON object a line is expected; convert it: "
            "jq -c '.[]' OLD.json > NEW.jsonl"
        )
    if start == "{":
        raise DataError(
            f"{path}:{number}: a JSON object stands on several lines, and one object a line is expected; convert it: "
            "jq -c . OLD.json > NEW.jsonl"
        )
