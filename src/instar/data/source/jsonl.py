"""JSON lines: one object a line."""

import json
from collections.abc import Iterator
from typing import Literal

from instar.data.document import Document
from instar.data.files import Faults, lines
from instar.data.source.base import ColumnSource


class JsonLines(ColumnSource):
    """One JSON object a line, plain, gzip or Zstandard; blank lines are passed over."""

    kind: Literal["jsonl"] = "jsonl"

    def documents(self) -> Iterator[Document]:
        faults = Faults()
        for path in self.files():
            for number, line in lines(path):
                if not line.strip():
                    continue
                place = f"{path}:{number}"
                try:
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        faults.add(f'{place}: wanted a JSON object like {{"{self.text}": "..."}}; got {line[:60]}')
                        continue
                    document = self.document(row, path, number)
                except RecursionError:
                    faults.add(f"{place}: nested too deeply")
                    continue
                except ValueError as error:
                    faults.add(f"{place}: {error}")
                    continue
                yield document
        faults.check()
