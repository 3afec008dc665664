"""Labels of documents as arrays: classes, several classes at once, or numbers."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.core.files.reading import Faults, did_you_mean
from instar.data.columns import ColumnFolder
from instar.data.document import Document
from instar.data.doubts import Doubts
from instar.data.label import NOT_LABELLED

LabelKind = Literal["none", "class", "many", "number"]
_CHUNK = 1 << 20


class LabelWriter:
    """Writes the labels as they come; what a class is called is settled at the end.

    Classes are numbered in sorted order (whole numbers by value), or as `known` has them,
    and then a class that is not among `known` is a fault that names its line. Where the classes are
    not known beforehand, `doubts` knows which pairs of names and which names are refused.
    """

    def __init__(self, columns: ColumnFolder, known: Sequence[str] | None, doubts: Doubts) -> None:
        self._columns = columns
        self._doubts = doubts
        self._width: int | None = None
        self._first_seen: dict[str, str] = {}
        self._known = None if known is None else {name: number for number, name in enumerate(known)}
        self._codes: dict[str, int] = dict(self._known or {})
        self._faults = Faults()
        self.kind: LabelKind | None = None

    def append(self, documents: Sequence[Document]) -> None:
        """Labels of some documents, in order; all documents have the same kind of label."""
        for document in documents:
            kind = _kind_of(document)
            if self.kind is None:
                self._open(kind)
            elif kind != self.kind:
                self._faults.add(f"{document.where}: wanted a label of kind '{self.kind}' as before; got '{kind}'")
        if self._faults.count or self.kind == "none":
            return
        if self.kind == "number":
            self._values.append(np.array([document.label for document in documents]))
        elif self.kind == "class":
            self._values.append(np.array([self._code(str(document.label), document.where) for document in documents]))
        else:
            rows = [[self._code(name, document.where) for name in self._names(document)] for document in documents]
            self._values.append(np.array([code for row in rows for code in row]))
            self._counts.append(np.array([len(row) for row in rows]))

    def _open(self, kind: LabelKind) -> None:
        self.kind = kind
        if kind == "number":
            self._values = self._columns.column("labels", "<f4")
        elif kind != "none":
            self._values = self._columns.column("codes", "<i4")
        if kind == "many":
            self._counts = self._columns.column("counts", "<i4")

    def _names(self, document: Document) -> Iterator[str]:
        """The classes that hold; of a list of 0 and 1 by the index in the list, and all lists are equally long."""
        flags = [flag for flag in document.label if isinstance(flag, bool)] if isinstance(document.label, tuple) else []
        if not flags:
            yield from _names(document)
            return
        if self._width is None:
            self._width = len(flags) if self._known is None else len(self._known)
            for number in range(self._width) if self._known is None else ():
                self._code(str(number), document.where)
        if len(flags) != self._width:
            self._faults.add(f"{document.where}: wanted 0 or 1 for each of {self._width} classes; got {len(flags)}")
            return
        names = list(self._codes) if self._known is None else list(self._known)
        yield from (name for name, flag in zip(names, flags, strict=False) if flag)

    def _code(self, name: str, where: str) -> int:
        code = self._codes.get(name)
        if code is None:
            code = self._codes[name] = len(self._codes)
            self._first_seen[name] = where
        if self._known is not None and name not in self._known:
            known = ", ".join(list(self._known)[:20])
            hint = '; label_missing: ["-1"] leaves out rows without a label' if name == NOT_LABELLED else ""
            self._faults.add(
                f"{where}: label '{name}' is not known{did_you_mean(name, self._known)}; known are: {known}{hint}"
            )
        return code

    def finish(self) -> tuple[str, ...] | None:
        """Write the final labels; returns the class names in the order of their numbers, None for numbers or none."""
        if self._known is None and self._width is None:
            for fault in self._doubts.about(self._first_seen, several=self.kind == "many"):
                self._faults.add(fault)
        self._faults.check()
        if self.kind in (None, "none", "number"):
            return None
        names = list(self._known) if self._known is not None else _ordered(self._codes)
        where = {name: number for number, name in enumerate(names)}
        number_of = np.array([where[name] for name in self._codes], dtype=np.int64)
        folder = self._columns.folder
        self._columns.close("codes")
        if self.kind == "class":
            labels = self._columns.column("labels", "<i8")
            for codes in _pieces(folder / "codes.bin"):
                labels.append(number_of[codes])
        else:
            self._columns.close("counts")
            self._write_many(number_of, len(names))
        (folder / "codes.bin").unlink()
        return tuple(names)

    def _write_many(self, number_of: NDArray[np.int64], num_classes: int) -> None:
        folder = self._columns.folder
        labels = self._columns.column("labels", "|u1")
        with (folder / "codes.bin").open("rb") as codes:
            for counts in _pieces(folder / "counts.bin", max(1, _CHUNK // num_classes)):
                flags = np.zeros((len(counts), num_classes), dtype=np.uint8)
                some = np.fromfile(codes, dtype="<i4", count=int(counts.sum()))
                flags[np.repeat(np.arange(len(counts)), counts), number_of[some]] = 1
                labels.append(flags)
        (folder / "counts.bin").unlink()


def _kind_of(document: Document) -> LabelKind:
    if document.label is None:
        return "none"
    if isinstance(document.label, str):
        return "class"
    return "many" if isinstance(document.label, tuple) else "number"


def _names(document: Document) -> Iterator[str]:
    if not isinstance(document.label, tuple):
        raise DataError(f"{document.where}: wanted several classes; got {document.label!r}")
    yield from map(str, document.label)


def _ordered(names: dict[str, int]) -> list[str]:
    if all(name.lstrip("-").isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _pieces(path: Any, size: int = _CHUNK) -> Iterator[NDArray[Any]]:
    with path.open("rb") as file:
        while len(part := np.fromfile(file, dtype="<i4", count=size)):
            yield part
