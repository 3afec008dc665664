"""Parquet tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from instar.core.errors import DataError
from instar.data.document import Document
from instar.data.files import Faults
from instar.data.source.base import ColumnSource


class Parquet(ColumnSource):
    """Rows of Parquet files, read in pieces."""

    position: ClassVar[str] = "table_row"

    kind: Literal["parquet"] = "parquet"

    def documents(self) -> Iterator[Document]:
        faults = Faults()
        for path in self.files():
            yield from self._rows(path, faults)
        faults.check()

    def _rows(self, path: Path, faults: Faults) -> Iterator[Document]:
        import pyarrow
        from pyarrow.parquet import ParquetFile

        try:
            with ParquetFile(path) as table:
                self.check_columns(path, table.schema_arrow.names)
                number = 0
                for batch in table.iter_batches(batch_size=4096, columns=self.wanted()):
                    for row in batch.to_pylist():
                        number += 1
                        try:
                            document = self.document(row, path, number)
                        except ValueError as error:
                            faults.add(f"{path}:{number}: {error}")
                            continue
                        yield document
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path}: not a Parquet file that can be read ({str(error).splitlines()[0]})") from error
