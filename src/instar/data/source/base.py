"""What every source has: files, documents, and columns where there are columns."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from instar.config import Config
from instar.core.errors import DataError
from instar.data.document import Document
from instar.data.files import did_you_mean, resolve


class SourceBase(Config):
    """Files that give documents."""

    folds_case: ClassVar[bool] = False
    """Whether tokens are matched on upper case and lower case is kept as a flag of each token."""
    position: ClassVar[str] = "line"
    """What a document's `line` counts: lines of its file, or rows of a table."""

    path: str | list[str]
    """File, pattern (sorted), or a list of them; `embedded:NAME` is a file that comes with instar."""

    def files(self) -> list[Path]:
        """The files, in the order they are read; InputMissingError names each that is not there."""
        return resolve(self.path)

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """Every document in order, empty ones too; DataError lists the faults of a file together."""

    def normalized(self, text: str) -> str:
        """A document's text as a tokenizer is to see it; as long as it was."""
        return text

    def texts(self) -> Iterator[str]:
        """Just the texts, as a tokenizer is to see them."""
        for document in self.documents():
            yield self.normalized(document.text)


class ColumnSource(SourceBase):
    """A source with named columns, one of which holds the text."""

    text: str = "text"
    """Column of the text."""
    label: str | None = None
    """Column of the label; none: there are no labels."""
    label_kind: Literal["class", "many", "number"] = "class"
    """One class, several classes at once, or a number to be predicted."""
    label_separator: str = ","
    """What stands between the classes of a cell (label_kind: many)."""

    completion: str | None = None
    """Column of a text that is to be written after the other: a language model learns it alone, given the other."""
    between: str = "\n"
    """What stands between the two; part of what is given."""

    @model_validator(mode="after")
    def _learns_one_thing(self) -> Self:
        if self.completion is not None and self.label is not None:
            raise ValueError("set one of label and completion: a row is either judged or completed")
        return self

    def wanted(self) -> list[str]:
        """The columns that are read."""
        return [self.text, *(name for name in (self.label, self.completion) if name is not None)]

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

    def document(self, row: Mapping[str, object], file: Path | str, line: int) -> Document:
        """The document of a row; ValueError says what is wrong with it."""
        if self.text not in row:
            raise ValueError(f"there is no field '{self.text}'{did_you_mean(self.text, row)}")
        text = row[self.text]
        if not isinstance(text, str):
            raise ValueError(f"'{self.text}' is to be text; got {_shown(text)}")
        text.encode()  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
        if self.completion is not None:
            return self._completed(Document(text, file=str(file), line=line), row, self.completion)
        if self.label is None:
            return Document(text, file=str(file), line=line)
        if self.label not in row:
            raise ValueError(f"there is no field '{self.label}'{did_you_mean(self.label, row)}")
        return Document(text, self._label(row[self.label]), file=str(file), line=line)

    def _completed(self, given: Document, row: Mapping[str, object], field: str) -> Document:
        if field not in row:
            raise ValueError(f"there is no field '{field}'{did_you_mean(field, row)}")
        completion = row[field]
        if not isinstance(completion, str):
            raise ValueError(f"'{field}' is to be text; got {_shown(completion)}")
        completion.encode()
        prompt = given.text + self.between
        return replace(given, text=prompt + completion, prompt=len(prompt))

    def _label(self, value: object) -> str | float | tuple[str, ...]:
        if self.label_kind == "many":
            parts = value.split(self.label_separator) if isinstance(value, str) else value
            if not isinstance(parts, list | tuple):
                raise ValueError(f"'{self.label}' is to be a list of classes; got {_shown(value)}")
            names = [_class_name(self.label, part) for part in parts if str(part).strip()]
            return tuple(dict.fromkeys(names))
        if self.label_kind == "number":
            return _number(self.label, value)
        return _class_name(self.label, value)


def _number(column: str | None, value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else float("nan")
    except ValueError:
        number = float("nan")
    if number - number != 0:
        raise ValueError(f"'{column}' is to be a finite number; got {_shown(value)}")
    return number


def _class_name(column: str | None, value: object) -> str:
    if not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(f"'{column}' is to be a class (text or a whole number); got {_shown(value)}")
    return str(value).strip()


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
