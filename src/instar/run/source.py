"""A file that the run file does not name, read as the run's own data are."""

from collections.abc import Sequence
from pathlib import Path

from instar.data.source import ColumnSource, Csv, Fasta, JsonLines, Parquet, Source, Text

_ENDINGS: dict[str, type[Text | JsonLines | Csv | Parquet | Fasta]] = {
    ".fa": Fasta,
    ".fasta": Fasta,
    ".fna": Fasta,
    ".csv": Csv,
    ".tsv": Csv,
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".parquet": Parquet,
}


def source_like(known: Source | None, path: Path, *, labelled: bool) -> Source:
    """A source over `path`, of the kind its ending says, with the columns of `known`; text has a document a line."""
    endings = [ending.lower() for ending in path.suffixes if ending.lower() not in (".gz", ".zst", ".bgz")]
    kind = _ENDINGS.get(endings[-1] if endings else "", Text)
    if isinstance(known, kind):
        changes: dict[str, object] = {"path": str(path)}
        if isinstance(known, ColumnSource) and not labelled:
            changes |= {"label": None, "completion": None}
        if isinstance(known, Text) and not labelled:
            changes["separation"] = "line"
        return known.model_copy(update=changes)
    if not issubclass(kind, ColumnSource):
        options = {"documents": "line"} if kind is Text else {}
        return kind.model_validate({"path": str(path), **options})
    columns: dict[str, object] = {}
    if isinstance(known, ColumnSource):
        columns = {"text": known.text, "label_kind": known.label_kind, "label_separator": known.label_separator}
        columns["label"] = known.label if labelled else None
        if labelled:
            columns |= {"completion": known.completion, "between": known.between}
    return kind.model_validate({"path": str(path), **columns})


HIDDEN = "-1"
"""The label of a document whose label is not told."""


def hides_labels(source: Source, known: Sequence[str] | None) -> bool:
    """True where a source gives no labels, or -1 in their place, as the test parts of benchmarks do."""
    first = next(source.documents(), None)
    if first is None or first.label is None:
        return True
    return known is not None and HIDDEN not in known and first.label == HIDDEN


def without_hidden(source: Source, known: Sequence[str] | None) -> Source:
    """The source as one without labels, where it hides them."""
    if isinstance(source, ColumnSource) and source.label is not None and hides_labels(source, known):
        return source.model_copy(update={"label": None})
    return source
