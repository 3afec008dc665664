"""Tables in text: CSV and TSV."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from instar.core.errors import DataError
from instar.core.files.reading import MAX_LINE, lines
from instar.data.document import Document
from instar.data.source.base import ColumnSource, Reading


class Csv(ColumnSource):
    """Rows with named columns, plain, gzip or Zstandard."""

    endings: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".tab")

    kind: Literal["csv"] = "csv"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Between the cells; none: a tab where the file's name has .tsv or .tab, else a comma."""
    quoting: bool | None = None
    """Whether cells may stand in double quotes; none: yes, except where the delimiter is a tab."""
    columns: list[str] | None = None
    """Names of the columns of a file without a header; none: the first line names them."""

    def documents(self) -> Iterator[Document]:
        reading = Reading(self)
        for path in self.files():
            yield from self._rows(path, reading)
        reading.finish()

    def _rows(self, path: Path, reading: Reading) -> Iterator[Document]:
        header, is_empty = self.columns, True
        for line, row in self._cells(path):
            if header is None:
                header = [name.strip() for name in row]
                self._check_header(f"{path}:{line}", header)
                continue
            if not row:
                continue
            is_empty = False
            if len(row) != len(header):
                hint = "" if self._is_quoted(path) else _quote_hint(row)
                reading.faults.add(
                    f"{path}:{line}: wanted {len(header)} cells ({', '.join(header)}); got {len(row)}{hint}"
                )
                continue
            document = reading.document(dict(zip(header, row, strict=True)), path, line)
            if document is not None:
                yield document
        if is_empty:
            reading.faults.add(f"{path}: there are no rows after the header")

    def _cells(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """(line where it begins, cells) of each row."""
        read = 0

        def counted() -> Iterator[str]:
            nonlocal read
            for number, line in lines(path):
                read = number
                yield line + "\n"

        csv.field_size_limit(MAX_LINE)
        quoted = self._is_quoted(path)
        first = 1
        try:
            rows = csv.reader(
                counted(),
                delimiter=self._delimiter(path),
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
                strict=quoted,
            )
            for row in rows:
                yield first, row
                first = read + 1
        except csv.Error as error:
            raise DataError(f"{path}:{first}: {error}; set `quoting: false` if quotes are plain characters") from error

    def _delimiter(self, path: Path) -> str:
        return self.delimiter or ("\t" if {".tsv", ".tab"} & set(path.suffixes) else ",")

    def _is_quoted(self, path: Path) -> bool:
        return self._delimiter(path) != "\t" if self.quoting is None else self.quoting

    def _check_header(self, where: str, header: list[str]) -> None:
        if len(set(header)) != len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise DataError(f"{where}: column names come twice: {', '.join(twice)}")
        self.check_columns(where, header)


def _quote_hint(row: list[str]) -> str:
    """What to do where a cell seems to continue in the next line, or to have begun in an earlier one."""
    opened = any(cell.startswith('"') and (len(cell) == 1 or not cell.endswith('"')) for cell in row)
    closed = any(cell.endswith('"') and not cell.startswith('"') for cell in row)
    if not opened and not closed:
        return ""
    return "; if cells stand in double quotes and may hold line breaks, set `quoting: true`"
