"""Answers about the documents of a source, each with what it is an answer about."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from instar.data.document import Document
from instar.data.samples import Samples
from instar.data.source import SourceBase
from instar.data.tokenizer import Tokenizer
from instar.data.unknown import TokenCount, check_unknown, reads_u_as_t

Row = dict[str, Any]
ALLOW_OPTION = "--allow-unknown-tokens"


def record_of(samples: Samples, number: int) -> Row:
    """The record, and the 0-based half-open part of it, that a sample was cut from; nothing without records.

    With its file where records of two files have one name.
    """
    cache, index_D = samples.cache, np.array([number], dtype=np.int64)
    document = int(samples.documents(index_D)[0])
    if not cache.name(document):
        return {}
    _, _, first_D, last_D = samples.character_bounds(index_D)
    start = cache.start(document)
    file = {"file": str(cache.file(document))} if cache.has_equal_names else {}
    return {**file, "record": cache.name(document), "start": start + int(first_D[0]), "end": start + int(last_D[0])}


class Answers:
    """Rows in the order of the source's documents, which are read as the rows are asked for.

    A row has `row`, `file`, `line` (in a table `table_row`), for a record also `record`, `start` and `end` (0-based,
    half-open; what was read of it), and then the answer, or the reason why there is none. After the last row comes a
    DataError if most tokens are unknown and `allow_unknown` is false.
    """

    def __init__(self, source: SourceBase, tokenizer: Tokenizer, count: TokenCount, *, allow_unknown: bool) -> None:
        self._source, self._tokenizer, self._count = source, tokenizer, count
        self._allow_unknown = allow_unknown
        self._counts_u = reads_u_as_t(source, tokenizer)
        self.totals = {"rows": 0, "skipped": 0, "truncated": 0}
        self.warning: str | None = None

    def rows(
        self,
        answer: Callable[[Iterable[str]], Iterator[Row]],
        *,
        prompt: Callable[[Document], str] | None = None,
        label: Callable[[Document], Any] | None = None,
    ) -> Iterator[Row]:
        """`answer` gives one row for each text; `prompt` makes the text, `label` what the row tells as its label."""
        waiting: deque[Document] = deque()

        def texts() -> Iterator[str]:
            for document in self._source.documents():
                waiting.append(document)
                if self._counts_u:
                    self._count.uracil += document.text.count("U") + document.text.count("u")
                yield self._source.normalized(document.text if prompt is None else prompt(document))

        for answered in answer(texts()):
            document = waiting.popleft()
            row = self._row(answered, document)
            told = None if label is None else label(document)
            yield row if told is None else {**row, "label": told}
        self._check()

    def _row(self, answered: Row, document: Document) -> Row:
        read = answered.pop("read_characters", None)
        row = {"row": answered.pop("row"), "file": document.file, self._source.position: document.line}
        if document.name:
            length = len(document.text) if read is None else read
            row |= {"record": document.name, "start": document.start}
            row["end"] = document.start + (document.gap or length)
        elif read is not None:
            answered["read_characters"] = read
        if document.gap:
            answered["skipped"] = "the record holds nothing but N"
        self.totals["rows"] += 1
        self.totals["skipped"] += "skipped" in answered
        self.totals["truncated"] += "truncated" in answered
        return row | answered

    def _check(self) -> None:
        what = str(self._source.files()[0])
        self.warning = check_unknown(
            what, self._count, self._tokenizer, is_allowed=self._allow_unknown, option=ALLOW_OPTION
        )

    def facts(self) -> dict[str, Any]:
        """Counts of rows and of unknown tokens, and a warning where one is due."""
        warning = {} if self.warning is None else {"warning": self.warning}
        return self.totals | self._count.facts() | warning
