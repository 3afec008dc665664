"""Tables in text: CSV and TSV."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from instar.core.errors import DataError
from instar.data.document import Document
from instar.data.files import MAX_LINE, Faults, lines
from instar.data.source.base import ColumnSource


class Csv(ColumnSource):
    """Rows with named columns, plain, gzip or Zstandard."""

    kind: Literal["csv"] = "csv"
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Between the cells; none: a tab where the file's name has .tsv or .tab, else a comma."""
    quoting: bool | None = None
    """Whether cells may stand in double quotes; none: yes, except where the delimiter is a tab."""
    columns: list[str] | None = None
    """Names of the columns of a file without a header; none: the first line names them."""

    def documents(self) -> Iterator[Document]:
        faults = Faults()
        for path in self.files():
            yield from self._rows(path, faults)
        faults.check()

    def _rows(self, path: Path, faults: Faults) -> Iterator[Document]:
        at = [0]

        def counted() -> Iterator[str]:
            for number, line in lines(path):
                at[0] = number
                yield line + "\n"

        csv.field_size_limit(MAX_LINE)
        delimiter = self.delimiter or ("\t" if {".tsv", ".tab"} & set(path.suffixes) else ",")
        quoted = delimiter != "\t" if self.quoting is None else self.quoting
        rows = csv.reader(
            counted(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE, strict=quoted
        )
        header, first = self.columns, 1
        try:
            for row in rows:
                place, first = f"{path}:{first}", at[0] + 1
                if header is None:
                    header = [name.strip() for name in row]
                    self._check_header(place, header)
                    continue
                if not row:
                    continue
                if len(row) != len(header):
                    faults.add(f"{place}: wanted {len(header)} cells ({', '.join(header)}); got {len(row)}")
                    continue
                try:
                    document = self.document(dict(zip(header, row, strict=True)), place)
                except ValueError as error:
                    faults.add(f"{place}: {error}")
                    continue
                yield document
        except csv.Error as error:
            raise DataError(f"{path}:{first}: {error}; set `quoting: false` if quotes are plain characters") from error

    def _check_header(self, place: str, header: list[str]) -> None:
        if len(set(header)) != len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise DataError(f"{place}: column names come twice: {', '.join(twice)}")
        self.check_columns(place, header)
