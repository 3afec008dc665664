"""A file that the run file does not name, read as the run's own data are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from instar.core.errors import UsageError
from instar.data.label import NOT_LABELLED
from instar.data.source import (
    ColumnSource,
    Csv,
    Fasta,
    Genome,
    JsonLines,
    Mixture,
    Parquet,
    PlainSource,
    SavedDataset,
    Source,
    Text,
    TwoBit,
)
from instar.genome import twobit

Kind = type[Text | JsonLines | Csv | Parquet | Fasta | TwoBit | SavedDataset]
_KINDS: tuple[Kind, ...] = (Fasta, TwoBit, Csv, JsonLines, Parquet, Text)
_PACKED = (".gz", ".zst", ".bgz")


def _kind_of(path: Path, known: Sequence[PlainSource]) -> Kind:
    """The kind of a file by its ending, else by its first bytes; of a folder by what is in it; else text."""
    if path.is_dir():
        is_saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
        return SavedDataset if is_saved or not known else type(known[0])
    endings = [ending.lower() for ending in path.suffixes if ending.lower() not in _PACKED]
    ending = endings[-1] if endings else ""
    for kind in _KINDS:
        if ending in kind.endings:
            return kind
    if ending == ".json":
        return JsonLines
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return Text
    if start == b"PAR1":
        return Parquet
    if start in twobit.STARTS:
        return TwoBit
    return Fasta if start.startswith(b">") and any(isinstance(one, Fasta) for one in known) else Text


def source_like(known: Source | None, path: Path, *, labelled: bool) -> PlainSource:
    """A source over `path`, of the kind it seems to be, with the columns of `known`; text has a document a line."""
    parts: list[PlainSource] = known.parts if isinstance(known, Mixture) else [] if known is None else [known]
    kind = _kind_of(path, parts)
    like = next((part for part in parts if isinstance(part, kind)), parts[0] if parts else None)
    return _like(like, kind, path, labelled=labelled)


def _like(known: PlainSource | None, kind: Kind, path: Path, *, labelled: bool) -> PlainSource:
    if known is not None and isinstance(known, kind):
        changes: dict[str, object] = {"path": str(path), "left_out": []}
        if isinstance(known, Genome):
            changes |= Genome.choice_of_all()
        if isinstance(known, ColumnSource):
            changes |= {"rows": None, "rows_left_out": None}
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


@dataclass(frozen=True)
class Part:
    """What is read of a genome; nothing chosen: all of it."""

    chromosomes: Sequence[str] = ()
    intervals: Sequence[str] = ()
    """BED files."""

    def of(self, source: PlainSource) -> PlainSource:
        """The source with this part only; UsageError where it has no chromosomes."""
        if not self.chromosomes and not self.intervals:
            return source
        if not isinstance(source, Genome):
            raise UsageError(
                f"{source.path}: is read as {source.kind}, which has no sequences to choose from; --part is for a part "
                "of a genome"
            )
        chosen = {"chromosomes": list(self.chromosomes) or None, "intervals": list(self.intervals) or None}
        return source.model_copy(update=chosen)


WHOLE = Part()


def withholds_labels(source: Source, known: Sequence[str] | None) -> bool:
    """True where a source gives no labels, or -1 in place of every one, as the test parts of benchmarks do."""
    if not source.is_labelled:
        return True
    withheld = {None} if known is None or NOT_LABELLED in known else {None, NOT_LABELLED}
    return all(document.label in withheld for document in source.documents())


def without_withheld(source: Source, known: Sequence[str] | None) -> Source:
    """The source as one without labels, where it withholds them."""
    if isinstance(source, ColumnSource) and source.label is not None and withholds_labels(source, known):
        return source.model_copy(update={"label": None})
    return source
