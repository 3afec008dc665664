"""A file that the run file does not name, read as the run's own data are."""

from collections.abc import Sequence
from pathlib import Path

from instar.data.label import NOT_LABELLED
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
        names = ("text", "label_kind", "label_separator", "label_type", "label_missing")
        columns = {name: getattr(known, name) for name in names}
        columns["label"] = known.label if labelled else None
        if labelled:
            columns |= {"completion": known.completion, "between": known.between}
    return kind.model_validate({"path": str(path), **columns})


def hides_labels(source: Source, known: Sequence[str] | None) -> bool:
    """True where a source gives no labels, or -1 in place of every one, as the test parts of benchmarks do."""
    if not source.is_labelled:
        return True
    is_hidden = {None} if known is None or NOT_LABELLED in known else {None, NOT_LABELLED}
    return all(document.label in is_hidden for document in source.documents())


def without_hidden(source: Source, known: Sequence[str] | None) -> Source:
    """The source as one without labels, where it hides them."""
    if isinstance(source, ColumnSource) and source.label is not None and hides_labels(source, known):
        return source.model_copy(update={"label": None})
    return source
