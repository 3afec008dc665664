"""Several sources, each met as often as its weight says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from instar.config import Config
from instar.data.document import Document
from instar.data.label import LabelType
from instar.data.source.base import ColumnSource, SourceBase
from instar.data.source.csv import Csv
from instar.data.source.dataset import SavedDataset
from instar.data.source.fasta import Fasta
from instar.data.source.jsonl import JsonLines
from instar.data.source.parquet import Parquet
from instar.data.source.text import Text
from instar.data.source.twobit import TwoBit

PlainSource = Annotated[Text | JsonLines | Csv | Parquet | Fasta | TwoBit | SavedDataset, Field(discriminator="kind")]
"""A source that is no mixture, chosen by `kind`."""


class Weighted(Config):
    """A part of a mixture."""

    weight: float = Field(gt=0, allow_inf_nan=False)
    """Share of the training samples, relative to the other weights."""
    source: PlainSource
    """Where they come from."""


class Mixture(SourceBase):
    """Training data from several sources. A weight is a share of samples, whatever the sizes of the sources.

    A small source with a large weight is met several times before a large one is met once; each source is
    shuffled again in each of its own passes. All are of one nature: genomes or none, labels of one kind or none.
    """

    kind: Literal["mixture"] = "mixture"
    sources: list[Weighted] = Field(min_length=2)
    """The parts: `{weight: 0.7, source: {kind: text, path: FILE}}` each."""

    @model_validator(mode="after")
    def _is_of_one_nature(self) -> Self:
        parts = self.parts
        if len({part.folds_case for part in parts}) > 1:
            raise ValueError("the sources of a mixture are all genomes (kind: fasta), or none is")
        if len({part.label_kind if part.is_labelled else None for part in self._tables}) > 1 or (
            self.is_labelled and not all(part.is_labelled for part in parts)
        ):
            raise ValueError("the sources of a mixture all have labels of one label_kind, or none has labels")
        if any(part.completion is not None for part in self._tables):
            raise ValueError("the sources of a mixture have no `completion`: their documents are learned whole")
        return self

    @property
    def parts(self) -> list[PlainSource]:
        """The sources, in order."""
        return [part.source for part in self.sources]

    @property
    def _tables(self) -> list[ColumnSource]:
        return [part for part in self.parts if isinstance(part, ColumnSource)]

    @property
    def weights(self) -> tuple[float, ...]:
        """A weight for each source."""
        return tuple(part.weight for part in self.sources)

    @property
    def folds_case(self) -> bool:
        return self.parts[0].folds_case

    @property
    def is_labelled(self) -> bool:
        return any(part.is_labelled for part in self.parts)

    @property
    def label_type(self) -> LabelType | None:
        """That of all sources; None where one of them leaves it open."""
        found = {part.label_type for part in self._tables}
        return found.pop() if len(found) == 1 else None

    @property
    def label_missing(self) -> list[str] | None:
        """Those of all sources; None where one of them leaves it open."""
        found = [part.label_missing for part in self._tables]
        return None if None in found else [text for texts in found for text in texts or ()]

    def declared_classes(self) -> tuple[str, ...] | None:
        found = {part.declared_classes() for part in self.parts}
        return found.pop() if len(found) == 1 else None

    def files(self) -> list[Path]:
        return [path for part in self.parts for path in part.files()]

    def notices(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.notices()

    def normalized(self, text: str) -> str:
        return self.parts[0].normalized(text)

    def options(self) -> dict[str, Any]:
        """Without the weights: another order of the same documents needs no other tokens."""
        return {"kind": self.kind, "sources": [[part.options(), len(part.files())] for part in self.parts]}

    def documents(self) -> Iterator[Document]:
        for number, part in enumerate(self.parts):
            for document in part.documents():
                yield replace(document, part=number)
