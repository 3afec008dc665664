"""Where documents come from, one file a kind."""

from typing import Annotated

from pydantic import Field

from instar.data.source.base import ColumnSource, FileSource, SourceBase
from instar.data.source.csv import Csv
from instar.data.source.dataset import SavedDataset
from instar.data.source.fasta import Fasta
from instar.data.source.genome import Genome
from instar.data.source.jsonl import JsonLines
from instar.data.source.mixture import Mixture, PlainSource
from instar.data.source.parquet import Parquet
from instar.data.source.text import Text
from instar.data.source.twobit import TwoBit

Source = Annotated[
    Text | JsonLines | Csv | Parquet | Fasta | TwoBit | SavedDataset | Mixture, Field(discriminator="kind")
]
"""Any source, chosen by `kind`."""

__all__ = [
    "ColumnSource",
    "Csv",
    "Fasta",
    "FileSource",
    "Genome",
    "JsonLines",
    "Mixture",
    "Parquet",
    "PlainSource",
    "SavedDataset",
    "Source",
    "SourceBase",
    "Text",
    "TwoBit",
]
