"""Parquet tables."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from instar.core.errors import DataError
from instar.core.files.reading import refuse_pointer
from instar.data.document import Document
from instar.data.source.base import ColumnSource, Reading

_FEATURES = b"huggingface"
"""Key of the schema's metadata under which the `datasets` library describes the columns, as JSON."""


class Parquet(ColumnSource):
    """Rows of Parquet files, read in batches.

    Numbers of classes become the names that the `datasets` library left in the files' metadata; columns of
    categories (dictionary types) give their values.
    """

    position: ClassVar[str] = "table_row"
    endings: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    kind: Literal["parquet"] = "parquet"

    def declared_classes(self) -> tuple[str, ...] | None:
        if self.label is None:
            return None
        found: dict[tuple[str, ...] | None, Path] = {}
        for path in self.files():
            with _opened(path) as table:
                found.setdefault(_class_names(path, table.schema_arrow, self.label), path)
        if len(found) > 1:
            declared = "; ".join(f"{path}: {', '.join(names or ('none',))}" for names, path in found.items())
            raise DataError(f"the files declare different classes of '{self.label}': {declared}")
        return next(iter(found))

    def documents(self) -> Iterator[Document]:
        reading = Reading(self)
        names = self.declared_classes()
        for path in self.files():
            yield from self._rows(path, names, reading)
        reading.finish()

    def _rows(self, path: Path, names: tuple[str, ...] | None, reading: Reading) -> Iterator[Document]:
        with _opened(path) as table:
            self.check_columns(path, table.schema_arrow.names)
            for column in (self.text, self.completion):
                if column is not None:
                    _must_hold_text(path, table.schema_arrow, column)
            number = 0
            for batch in table.iter_batches(batch_size=4096, columns=self.wanted()):
                for row in batch.to_pylist():
                    number += 1
                    document = reading.document(row, path, number, names)
                    if document is not None:
                        yield document
            if not number:
                reading.faults.add(f"{path}: the table has no rows")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, open; DataError that tells whether it is no Parquet file or one that cannot be read here."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    refuse_pointer(path)
    try:
        with ParquetFile(path) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        what = "holds what is not read here, or is damaged" if is_parquet else "not a Parquet file that can be read"
        raise DataError(f"{path}: {what} ({str(error).splitlines()[0]})") from error


def _must_hold_text(path: Path, schema: Any, column: str) -> None:
    from pyarrow import types

    kind = schema.field(column).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise DataError(f"{path}: column '{column}' is to hold text (string); its type is {kind}")


def _class_names(path: Path, schema: Any, label: str) -> tuple[str, ...] | None:
    """Names of the classes of a column, or of those in its lists; None: the metadata have none."""
    try:
        features = json.loads((schema.metadata or {}).get(_FEATURES, b"{}")).get("info", {}).get("features", {})
        feature = features.get(label)
        while isinstance(feature, list | dict) and "names" not in feature:
            feature = feature[0] if isinstance(feature, list) and feature else dict(feature).get("feature")
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: the description of the columns (metadata '{_FEATURES.decode()}') is damaged"
        ) from error
    if feature is None or not isinstance(feature, dict):
        return None
    names = feature["names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise DataError(
            f"{path}: the classes of '{label}' in the metadata are no list of different names: {names!r:.80}"
        )
    return tuple(names)
