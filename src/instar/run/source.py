"""A file that the run file does not name, read as the run's own data are."""

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


def source_like(known: Source, path: Path, *, labelled: bool) -> Source:
    """A source over `path`, of the kind its ending says, with the columns of `known`; text has a document a line."""
    endings = [ending.lower() for ending in path.suffixes if ending.lower() not in (".gz", ".zst", ".bgz")]
    kind = _ENDINGS.get(endings[-1] if endings else "", Text)
    if isinstance(known, kind):
        changes: dict[str, object] = {"path": str(path)}
        if isinstance(known, ColumnSource) and not labelled:
            changes["label"] = None
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
    return kind.model_validate({"path": str(path), **columns})
