"""The `data:` section of a run file."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from instar.config import Config, PathText
from instar.config.base import KeyFaults
from instar.data.held_out import separate, shared_rows
from instar.data.samples import TooLong
from instar.data.source import Csv, Fasta, JsonLines, Parquet, PlainSource, SavedDataset, Source, Text, TwoBit
from instar.data.streaming import Streaming


class Split(Config):
    """Hold out a part of the training data."""

    fraction: float = Field(alias="split", gt=0, lt=1)
    """Part of the documents, or of the tokens where the documents are few and long."""
    seed: int = 0
    """Names the draw."""


def _kind(value: Any) -> str | None:
    if isinstance(value, dict):
        is_split = "kind" not in value and ("split" in value or "fraction" in value)
        return "held_out" if is_split else value.get("kind")
    return "held_out" if isinstance(value, Split) else getattr(value, "kind", None)


SourceOrSplit = Annotated[
    Annotated[Split, Tag("held_out")]
    | Annotated[Text, Tag("text")]
    | Annotated[JsonLines, Tag("jsonl")]
    | Annotated[Csv, Tag("csv")]
    | Annotated[Parquet, Tag("parquet")]
    | Annotated[Fasta, Tag("fasta")]
    | Annotated[TwoBit, Tag("twobit")]
    | Annotated[SavedDataset, Tag("dataset")],
    Discriminator(_kind),
]
"""A source, or `{split: 0.02}`."""


_TEXT = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_VALUE = {"type": ["string", "integer"]}
_ROWS_OR_FILES = {
    "type": "object",
    "description": "Rows, files or parts of train that are held out: {column: split, value: valid}, {path: FILES}, "
    "{chromosomes: [chrII]}, or {intervals: FILE.bed}.",
    "properties": {
        "column": {"type": "string"},
        "value": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]},
        "path": _TEXT,
        "chromosomes": {"type": "array", "items": {"type": "string"}},
        "intervals": _TEXT,
    },
    "additionalProperties": False,
}


def _add_rows_or_files(schema: dict[str, Any]) -> None:
    schema["anyOf"] = [*schema["anyOf"], _ROWS_OR_FILES]


class DataConfig(Config):
    """What is learned from, what it is evaluated on, and how long a sample may be."""

    train: Source
    """The data to learn from."""
    eval: SourceOrSplit | None = Field(default=None, json_schema_extra=_add_rows_or_files)
    """Evaluates the model while it learns: a source, or a part of `train`; none: no evaluation."""
    test: PlainSource | None = Field(default=None, json_schema_extra=_add_rows_or_files)
    """Evaluates the finished model; never looked at before. Like `eval`, it may be rows or files of `train`."""
    max_length: int | None = Field(default=None, ge=3)
    """Tokens of a sample at most, special tokens included; none: what the model takes."""
    too_long: TooLong = "error"
    """What becomes of a longer document: refuse it, cut off its end, or cut it into windows."""
    overlap: int = Field(default=0, ge=0)
    """Tokens that a window shares with the one before it."""
    crops: Literal["fixed", "random"] = Field(default="fixed", exclude_if=lambda value: value == "fixed")
    """random: in each pass samples begin elsewhere, and are tokenised from there (task mlm)."""
    reverse_complement: float = Field(default=0.0, ge=0, le=1, exclude_if=lambda value: value == 0)
    """Probability that a sample of a genome is read on its minus strand, drawn again in each pass (task mlm)."""
    allow_unknown_tokens: bool = Field(default=False, exclude_if=lambda value: not value)
    """Take data half of whose tokens or more are unknown to the tokenizer."""
    cache: PathText | None = None
    """Folder of token caches; none: `instar` in the user's cache folder (XDG_CACHE_HOME or ~/.cache)."""
    streaming: Streaming | None = Field(default=None, exclude_if=lambda value: value is None)
    """Tokenise `train` during training, a block of documents at a time: true, or {documents: 16384}. For corpora that
    are too large to be tokenised beforehand; none: the whole corpus is tokenised once, into a cache."""
    processes: int = Field(default=1, ge=1)
    """Processes that tokenise."""

    @model_validator(mode="before")
    @classmethod
    def _held_out(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("streaming"), bool):
            value = {**value, "streaming": {} if value["streaming"] else None}
        return separate(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _splits_differ(self) -> Self:
        faults = list(shared_rows({"train": self.train, "eval": self.eval, "test": self.test}))
        if faults:
            raise KeyFaults(faults)
        return self

    def cache_folder(self) -> Path:
        """Where the token caches lie."""
        if self.cache is not None:
            return Path(self.cache)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "instar"
