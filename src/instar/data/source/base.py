"""What every source has: files, documents, and columns where there are columns."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from instar.config import Config, PathText
from instar.core.errors import DataError
from instar.core.files.reading import MAX_FAULTS, Faults, did_you_mean, resolve
from instar.data.document import Document
from instar.data.label import (
    Label,
    LabelKind,
    LabelType,
    label_text,
    read_class,
    read_many,
    read_multi_hot,
    read_number,
    shown,
)


class SourceBase(Config):
    """What gives documents."""

    position: ClassVar[str] = "line"
    """What a document's `line` counts: lines of its file, or rows of a table."""

    @property
    def folds_case(self) -> bool:
        """Whether tokens are matched on upper case and lower case is kept as a flag of each token."""
        return False

    @property
    def is_labelled(self) -> bool:
        """Whether documents have labels; one without a label is then not learned from."""
        return False

    @abstractmethod
    def files(self) -> list[Path]:
        """The files, in the order they are read; InputMissingError names each that is not there."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """Every document in order, empty ones too; DataError lists the faults of a file together."""

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Whatever changes the documents, apart from the content of the files; as JSON."""

    def notices(self) -> Iterator[str]:
        """What is worth knowing of how the files are read, a line each."""
        return iter(())

    def normalized(self, text: str) -> str:
        """A document's text as a tokenizer is to see it; as long as it was."""
        return text

    def declared_classes(self) -> tuple[str, ...] | None:
        """Names of the classes by number, where the files declare them; None: the classes are those that occur."""
        return None

    def texts(self) -> Iterator[str]:
        """Just the texts, as a tokenizer is to see them."""
        for document in self.documents():
            yield self.normalized(document.text)


class FileSource(SourceBase):
    """Files of one kind."""

    endings: ClassVar[tuple[str, ...]] = ()
    """Ends of the names of the files that are read where a folder is named."""

    path: PathText | list[PathText]
    """File, pattern (sorted), folder (its files of this kind), or a list of them; `embedded:NAME` comes with instar."""

    left_out: list[PathText] = Field(default=[], exclude_if=lambda value: not value)
    """Files that are not read although `path` has them, for another split has them."""

    def files(self) -> list[Path]:
        left_out = resolve(self.left_out, self.endings) if self.left_out else []
        return resolve(self.path, self.endings, {path.resolve() for path in left_out})

    def options(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude={"path", "left_out"})


class Rows(Config):
    """Rows of a table, by what stands in one of its columns."""

    column: str
    """Name of the column."""
    value: str | int | list[str | int]
    """What stands there, or a list of such values; compared as text."""

    @property
    def texts(self) -> frozenset[str]:
        """The values as text."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return frozenset(map(str, values))


class ColumnSource(FileSource):
    """A source with named columns, one of which holds the text."""

    text: str = "text"
    """Column of the text."""
    label: str | None = None
    """Column of the label; none: there are no labels."""
    label_kind: LabelKind = "class"
    """One class; several at once (many: their names; multi_hot: 0 or 1 for each class); or a number to predict."""
    label_separator: str = ","
    """What stands between the classes, or between 0 and 1, of a cell of text (label_kind: many, multi_hot)."""
    label_type: LabelType | None = Field(default=None, exclude_if=lambda value: value is None)
    """text: classes are distinguished by what is written. integer: "1", "01" and "1.0" are one class. None: as text,
    and data in which two spellings are one number are refused."""
    label_missing: list[str] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Spellings (null: an empty value) of a label that is not known, such as "-1" or "nan": such rows are left out and
    counted. []: every spelling is a class. None: data in which one of the usual spellings occurs are refused."""

    completion: str | None = None
    """Column of a text that is to be written after the other: a language model learns it alone, given the other."""
    between: str = "\n"
    """What stands between the two; part of what is given."""

    rows: Rows | None = Field(default=None, exclude_if=lambda value: value is None)
    """Only these rows are read; none: all."""
    rows_left_out: Rows | None = Field(default=None, exclude_if=lambda value: value is None)
    """These rows are not read, for another split has them; the others must all have one value in that column."""

    @model_validator(mode="after")
    def _learns_one_thing(self) -> Self:
        if self.completion is not None and self.label is not None:
            raise ValueError("set one of label and completion: a row is either labelled or completed")
        return self

    @property
    def is_labelled(self) -> bool:
        return self.label is not None

    def options(self) -> dict[str, Any]:
        found = super().options()
        if self.completion is None:  # rows without one are as they were before there were any
            del found["completion"], found["between"]
        return found

    def wanted(self) -> list[str]:
        """The columns that are read."""
        chosen = [rows.column for rows in (self.rows, self.rows_left_out) if rows is not None]
        named = [self.text, *(name for name in (self.label, self.completion) if name is not None), *chosen]
        return list(dict.fromkeys(named))

    def check_columns(self, where: object, columns: Iterable[str]) -> None:
        """Raise a DataError that names every wanted column that is not among `columns`."""
        there = list(columns)
        missing = [
            f"{where}: there is no column '{name}'{did_you_mean(name, there)}; the columns are: {', '.join(there)}"
            for name in self.wanted()
            if name not in there
        ]
        if missing:
            raise DataError("\n".join(missing))

    def document(
        self, row: Mapping[str, object], file: Path | str, line: int, names: Sequence[str] | None = None
    ) -> Document:
        """The document of a row; ValueError names what is wrong with it. `names` are classes that the file declares."""
        if self.text not in row:
            raise ValueError(f"there is no field '{self.text}'{did_you_mean(self.text, row)}")
        text = row[self.text]
        if not isinstance(text, str):
            raise ValueError(f"'{self.text}' is to be text; got {shown(text)}")
        text.encode()  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
        if self.completion is not None:
            return self._completed(Document(text, file=str(file), line=line), row, self.completion)
        if self.label is None:
            return Document(text, file=str(file), line=line)
        if self.label not in row:
            raise ValueError(f"there is no field '{self.label}'{did_you_mean(self.label, row)}")
        return Document(text, self._label(row[self.label], names), file=str(file), line=line)

    def _completed(self, given: Document, row: Mapping[str, object], field: str) -> Document:
        if field not in row:
            raise ValueError(f"there is no field '{field}'{did_you_mean(field, row)}")
        completion = row[field]
        if not isinstance(completion, str):
            raise ValueError(f"'{field}' is to be text; got {shown(completion)}")
        completion.encode()
        prompt = given.text + self.between
        return replace(given, text=prompt + completion, prompt=len(prompt))

    def _label(self, value: object, names: Sequence[str] | None) -> Label:
        if label_text(value) in (self.label_missing or ()):
            return None
        try:
            if self.label_kind == "many":
                return read_many(value, self.label_separator, self.label_type, names)
            if self.label_kind == "multi_hot":
                return read_multi_hot(value, self.label_separator)
            return read_number(value) if self.label_kind == "number" else read_class(value, self.label_type, names)
        except ValueError as error:
            raise ValueError(f"'{self.label}' {error}") from None


class Reading:
    """One pass over the rows of a source: those that are chosen become documents, and faults are gathered."""

    def __init__(self, source: ColumnSource) -> None:
        self.faults = Faults()
        self._source = source
        self._choices = [rows for rows in (source.rows, source.rows_left_out) if rows is not None]
        self._values: dict[str, Counter[str]] = {rows.column: Counter() for rows in self._choices}

    def document(
        self, row: Mapping[str, object], file: Path | str, line: int, names: Sequence[str] | None = None
    ) -> Document | None:
        """The document of a row; None where the row is not chosen, or where a fault was added."""
        try:
            return self._source.document(row, file, line, names) if self._is_chosen(row) else None
        except ValueError as error:
            self.faults.add(f"{file}:{line}: {error}")
            return None

    def _is_chosen(self, row: Mapping[str, object]) -> bool:
        source, found = self._source, {}
        for column, values in self._values.items():
            if column not in row:
                raise ValueError(f"there is no field '{column}'{did_you_mean(column, row)}")
            found[column] = label_text(row[column])
            if found[column] in values or len(values) < MAX_FAULTS:
                values[found[column]] += 1
        if source.rows is not None and found[source.rows.column] not in source.rows.texts:
            return False
        return source.rows_left_out is None or found[source.rows_left_out.column] not in source.rows_left_out.texts

    def finish(self) -> None:
        """DataError for all faults; a value that no row has; and rows of further splits among those that stay."""
        for rows in self._choices if not self.faults.count else ():
            values = self._values[rows.column]
            counts = ", ".join(f"'{value}' ({count:,})" for value, count in values.items())
            for value in sorted(rows.texts - set(values)):
                self.faults.add(
                    f"{self._source.path}: no row has '{value}' in column '{rows.column}'; there are: {counts}"
                )
        out = self._source.rows_left_out
        rest = {} if out is None else {value for value in self._values[out.column] if value not in out.texts}
        if out is not None and len(rest) != 1 and not self._is_chosen_by(out.column):
            self.faults.add(
                f"{self._source.path}: the rows that are left for training have several values (or none) in column "
                f"'{out.column}': {', '.join(sorted(rest))}; name those to train on: "
                f"data.train.rows: {{column: {out.column}, value: ...}}"
            )
        self.faults.check()

    def _is_chosen_by(self, column: str) -> bool:
        return self._source.rows is not None and self._source.rows.column == column
