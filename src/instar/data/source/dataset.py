"""Folders written by `datasets.Dataset.save_to_disk`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from instar.config import PathText
from instar.core.errors import DataError, InputMissingError
from instar.core.files.folders import files_below
from instar.core.files.reading import did_you_mean, looked_from
from instar.data.document import Document
from instar.data.source.base import ColumnSource, Reading

_OWN_FILES = ("state.json", "dataset_dict.json")


class SavedDataset(ColumnSource):
    """A folder that `save_to_disk` of the `datasets` library wrote; nothing is fetched."""

    position: ClassVar[str] = "table_row"

    kind: Literal["dataset"] = "dataset"
    path: PathText
    """The folder."""
    split: str | None = None
    """Which split, where the folder holds several."""

    def files(self) -> list[Path]:
        folder = Path(self.path)
        if not folder.is_dir():
            raise InputMissingError(
                f"{self.path}: no such folder{looked_from(folder)}; wanted one that save_to_disk wrote"
            )
        found = files_below(folder)
        if not found:
            raise DataError(f"{self.path}: the folder is empty; wanted one that save_to_disk wrote")
        return found

    def documents(self) -> Iterator[Document]:
        self.files()
        table = self._table()
        self.check_columns(self.path, table.column_names)
        names = self._names(table)
        reading = Reading(self)
        for number, row in enumerate(table.select_columns(self.wanted()), start=1):
            document = reading.document(row, self.path, number, names)
            if document is not None:
                yield document
        reading.finish()

    def declared_classes(self) -> tuple[str, ...] | None:
        return None if self.label is None else self._names(self._table())

    def _names(self, table: Any) -> tuple[str, ...] | None:
        """Names of the classes of the label's column, or of those in its lists."""
        feature: Any = None if self.label is None else table.features.get(self.label)
        while feature is not None and (isinstance(feature, list) or hasattr(feature, "feature")):
            feature = feature[0] if isinstance(feature, list) else feature.feature
        names = getattr(feature, "names", None)
        return None if names is None else tuple(names)

    def _table(self) -> Any:
        from datasets import DatasetDict, load_from_disk

        folder = Path(self.path)
        if not any((folder / name).is_file() for name in _OWN_FILES):
            held = ", ".join(str(path.relative_to(folder)) for path in files_below(folder)[:5])
            raise DataError(
                f"{self.path}: not a folder that save_to_disk wrote (no {' or '.join(_OWN_FILES)}); it holds: {held}; "
                "a snapshot of a hub is read by the kind of its files, like {kind: parquet, path: FOLDER}"
            )
        try:
            loaded = load_from_disk(str(Path(self.path)))
        except Exception as error:  # the library raises many kinds for an external folder
            raise DataError(f"{self.path}: not a folder that save_to_disk wrote ({error})") from error
        if not isinstance(loaded, DatasetDict):
            return loaded
        splits = list(loaded)
        name = self.split or (splits[0] if len(splits) == 1 else "")
        if name not in loaded:
            raise DataError(f"{self.path}: choose a `split` of: {', '.join(splits)}{did_you_mean(name, splits)}")
        return loaded[name]
