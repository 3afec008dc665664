"""Plain text."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from instar.core.errors import DataError
from instar.core.files.reading import lines
from instar.data.document import Document
from instar.data.source.base import FileSource

MAX_DOCUMENT = 1 << 30
"""Characters; positions in a document are kept in 32 bits."""


class Text(FileSource):
    """UTF-8 text, plain, gzip or Zstandard."""

    endings: ClassVar[tuple[str, ...]] = (".txt", ".text")

    kind: Literal["text"] = "text"
    separation: Literal["blank_line", "line", "file"] = Field(default="blank_line", alias="documents")
    """What separates documents: a blank line (wrapped prose keeps its lines), each line's end, or the file's end."""

    def documents(self) -> Iterator[Document]:
        for path in self.files():
            if self.separation == "line":
                yield from (Document(line, file=str(path), line=number) for number, line in lines(path))
            else:
                yield from self._joined(path)

    def _joined(self, path: Path) -> Iterator[Document]:
        held: list[str] = []
        first = size = 0
        for number, line in lines(path):
            if self.separation == "blank_line" and not line.strip():
                if held:
                    yield Document("\n".join(held), file=str(path), line=first)
                held, size = [], 0
                continue
            first = first if held else number
            held.append(line)
            size += len(line) + 1
            if size > MAX_DOCUMENT:
                raise DataError(f"{path}:{first}: one document is longer than {MAX_DOCUMENT:,} characters")
        if held:
            yield Document("\n".join(held), file=str(path), line=first)
