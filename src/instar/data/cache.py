"""The token cache: every document of a source as tokens, in memory-mapped arrays.

Built once for each (content of the files, tokenizer, options), by one process while
others wait where the file system locks, and complete or absent at every moment. Letters: T tokens, N documents.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.core.files.disk import disk_errors
from instar.core.files.temporary import (
    courtesy_lock,
    publish_unless_whole,
    remove,
    remove_leftovers,
    set_aside,
    unique_name,
)
from instar.data.columns import ColumnFolder, read_columns
from instar.data.document import Document
from instar.data.doubts import Doubts
from instar.data.encode import Tokens, chunks, encode_all
from instar.data.fingerprint import cache_fingerprint
from instar.data.labels import LabelKind, LabelWriter
from instar.data.source import Mixture, SourceBase
from instar.data.tokenizer import Tokenizer
from instar.data.unknown import TokenCount, reads_u_as_t

Progress = Callable[[int, int], None]
"""Called with (documents, tokens) so far."""
_COUNTED_DUPLICATES = 1_000_000


class TokenCache:
    """Read-only view of a built cache; opening costs no memory for the tokens."""

    def __init__(
        self, folder: Path, *, full_check: bool | None = None, files: Sequence[Path] = (), in_memory: bool = False
    ) -> None:
        """`files` are those of the source, which may have moved since the cache was built.

        `in_memory`: nothing of the folder is needed afterwards.
        """
        facts, columns = read_columns(folder, full=full_check)
        if in_memory:
            columns = {name: np.array(column) for name, column in columns.items()}
        try:
            self.folder = folder
            self.fingerprint: str = facts["fingerprint"]
            self.report: dict[str, int] = facts["report"]
            """documents, characters, tokens, unknown_tokens, empty_documents, duplicate_documents, ..."""
            self.length_histogram: tuple[int, ...] = tuple(facts["length_histogram"])
            """Entry i: documents of 2^i to 2^(i+1)-1 tokens."""
            self.label_kind: LabelKind = facts["label_kind"]
            names = facts["label_names"]
            self.label_names: tuple[str, ...] | None = None if names is None else tuple(names)
            self.ids: NDArray[Any] = columns["ids"]
            """(T,) uint16 where the vocabulary has at most 65,536 entries, else uint32."""
            self.ends: NDArray[np.uint32] = columns["ends"]
            """(T,) end of each token in its document's text, in characters."""
            self.offsets: NDArray[np.int64] = columns["offsets"]
            """(N+1,) first token of each document, and the number of all."""
            self.lower: NDArray[np.bool_] | None = columns.get("lower")
            """(T,) whether a token holds a lower-case letter; only of a source that folds case."""
            self.starts: NDArray[np.int64] | None = columns.get("starts")
            """(N,) coordinate of each document in its record; None: all are 0."""
            self.prompts: NDArray[np.int32] | None = columns.get("prompts")
            """(N,) tokens at the start of each document that are given; None: all are learnt."""
            self._name_numbers: NDArray[np.int32] | None = columns.get("names")
            parts = facts.get("parts")
            self.parts: tuple[int, ...] | None = None if parts is None else tuple(parts)
            """Documents of each source of a mixture, which lie in this order; None: no mixture."""
            self.record_names: tuple[str, ...] = tuple(facts["record_names"])
            """Names of the records of a genome; records of two files may have one name."""
            record_files = facts.get("record_files")
            self._record_files = [0] * len(self.record_names) if record_files is None else list(record_files)
            self._files = tuple(files)
            self.labels = self._labels(columns.get("labels"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder}: the cache's index is damaged ({error!r})") from error

    def _labels(self, labels: NDArray[Any] | None) -> NDArray[Any] | None:
        if labels is None or self.label_kind != "many" or self.label_names is None:
            return labels
        return labels.reshape(-1, len(self.label_names))

    @property
    def num_documents(self) -> int:
        """Documents with at least one token."""
        return len(self.offsets) - 1

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, special tokens not counted."""
        return len(self.ids)

    @property
    def token_count(self) -> TokenCount:
        """Tokens, and those that the tokenizer does not know."""
        report = self.report
        return TokenCount(report["tokens"], report["unknown_tokens"], report["u_read_as_t"])

    def name(self, document: int) -> str:
        """The record that a document was cut from; '' where the source has none."""
        return "" if self._name_numbers is None else self.record_names[self.record(document)]

    @property
    def has_equal_names(self) -> bool:
        """Whether records of different files have one name."""
        return len(set(self.record_names)) < len(self.record_names)

    def record(self, document: int) -> int:
        """Number of the record that a document was cut from, among those that the cache holds."""
        return 0 if self._name_numbers is None else int(self._name_numbers[document])

    def file(self, document: int) -> Path | None:
        """The file of the record that a document was cut from; None where the source has no records."""
        if self._name_numbers is None or not self._files:
            return None
        return self._files[self._record_files[self.record(document)]]

    def start(self, document: int) -> int:
        """0-based coordinate of a document's first character in its record."""
        return 0 if self.starts is None else int(self.starts[document])


def build_cache(
    source: SourceBase,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    labels: Sequence[str] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> TokenCache:
    """The cache of a source below `folder`: opened if it is there and whole, else built.

    `labels` are the classes to be known (those of the training set); a document with another one
    is a DataError. Any number of processes on any number of hosts may ask at once: one builds and the others wait,
    or, where the file system does not lock, each builds and one is published. A damaged cache is built again with
    one warning. Memory stays bounded; leftovers of killed builds are removed.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1; got {processes}")
    fingerprint = cache_fingerprint(source, tokenizer, labels, folder)
    final = folder / fingerprint[:24]
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with courtesy_lock(final):
            remove_leftovers(final)
            if final.is_dir():
                try:
                    return TokenCache(final, files=source.files())
                except DataError as error:
                    warnings.warn(f"{error}; the token cache is built again", stacklevel=2)
                    set_aside(final, _is_whole)
            temporary = unique_name(final)
            try:
                temporary.mkdir()
                _Build(source, tokenizer, temporary, labels).run(fingerprint, processes, progress)
                publish_unless_whole(temporary, final, _is_whole)
            finally:
                remove(temporary)
            return TokenCache(final, full_check=False, files=source.files())


def cache_of(
    documents: Iterable[Document],
    source: SourceBase,
    tokenizer: Tokenizer,
    folder: Path,
    fingerprint: str,
    *,
    labels: Sequence[str] | None = None,
) -> TokenCache | None:
    """The tokens of some documents of a source, in memory; None where they have none.

    `fingerprint` names the corpus. `folder` holds files while the cache is made, and none afterwards.
    """
    temporary = unique_name(folder / "block")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder / "block")
        try:
            temporary.mkdir()
            build = _Build(source, tokenizer, temporary, labels, documents)
            build.run(fingerprint, 1, None)
            return (
                TokenCache(temporary, full_check=False, files=source.files(), in_memory=True) if build.count else None
            )
        finally:
            remove(temporary)


def _is_whole(folder: Path) -> bool:
    try:
        TokenCache(folder)
    except DataError:
        return False
    return True


class _Build:
    """One pass over the source."""

    def __init__(
        self,
        source: SourceBase,
        tokenizer: Tokenizer,
        folder: Path,
        labels: Sequence[str] | None,
        documents: Iterable[Document] | None = None,
    ) -> None:
        """`documents` None: all of the source."""
        self._source, self._tokenizer, self._documents = source, tokenizer, documents
        self._columns = ColumnFolder(folder)
        known = source.declared_classes() if labels is None else labels
        doubts = Doubts(
            spelling=getattr(source, "label_type", None) is None, missing=getattr(source, "label_missing", None) is None
        )
        self._labels = LabelWriter(self._columns, known, doubts)
        small = tokenizer.vocab_size <= 1 << 16
        self._ids = self._columns.column("ids", "<u2" if small else "<u4")
        self._ends = self._columns.column("ends", "<u4")
        self._offsets = self._columns.column("offsets", "<i8")
        self._lower = self._columns.column("lower", "|b1") if source.folds_case else None
        self._starts = self._columns.column("starts", "<i8") if source.folds_case else None
        self._names = self._columns.column("names", "<i4") if source.folds_case else None
        has_prompts = getattr(source, "completion", None) is not None
        self._prompts = self._columns.column("prompts", "<i4") if has_prompts else None
        files = source.files() if source.folds_case else []
        self._file_numbers = {str(path): number for number, path in reversed(list(enumerate(files)))}
        self._records: dict[tuple[int, str], int] = {}
        """Number of each record, by its file's number and its name."""
        self._parts: Counter[int] = Counter()
        self._seen: set[int] = set()
        self._histogram = np.zeros(64, dtype=np.int64)
        self._reads_u_as_t = reads_u_as_t(source, tokenizer)
        names = "documents characters tokens unknown_tokens u_read_as_t empty_documents unlabelled_documents"
        self._report = dict.fromkeys([*names.split(), "duplicate_documents", "longest_document"], 0)

    def run(self, fingerprint: str, processes: int, progress: Progress | None) -> None:
        try:
            self._offsets.append(np.zeros(1, dtype=np.int64))
            for group, tokens in encode_all(
                self._tokenizer, chunks(self._filled()), self._source.normalized, processes
            ):
                self._append(group, tokens)
                if progress is not None:
                    progress(self._report["documents"], self._report["tokens"])
            if not self.count:
                if self._documents is not None:
                    return
                lacks = "a label" if self._report["unlabelled_documents"] else "any text"
                raise DataError(f"{self._source.files()[0]}: no document has {lacks}; nothing to learn from")
            label_names = self._labels.finish()
            self._columns.seal(
                {
                    "fingerprint": fingerprint,
                    "report": self._report,
                    "length_histogram": np.trim_zeros(self._histogram, "b").tolist(),
                    "label_kind": self._labels.kind or "none",
                    "label_names": label_names,
                    "record_names": [name for _, name in self._records],
                    "record_files": [file for file, _ in self._records],
                    "parts": self._part_sizes(),
                }
            )
        finally:
            self._columns.abandon()

    @property
    def count(self) -> int:
        """Documents with at least one token."""
        return self._report["documents"]

    def _filled(self) -> Iterator[Document]:
        for document in self._source.documents() if self._documents is None else self._documents:
            if not document.text or document.text.isspace():
                self._report["empty_documents"] += 1
            elif self._source.is_labelled and document.label is None:
                self._report["unlabelled_documents"] += 1
            else:
                yield document

    def _append(self, group: list[Document], tokens: Tokens) -> None:
        lengths_D = tokens.lengths_D
        if not lengths_D.all():  # nothing but characters that the tokenizer drops
            self._report["empty_documents"] += int((lengths_D == 0).sum())
            group = [document for document, length in zip(group, lengths_D, strict=True) if length]
            lengths_D = lengths_D[lengths_D > 0]
        if not group:
            return
        report = self._report
        self._offsets.append(report["tokens"] + np.cumsum(lengths_D))
        self._ids.append(tokens.ids_T)
        self._ends.append(tokens.ends_T)
        self._labels.append(group)
        self._parts.update(document.part for document in group)
        self._append_records(group, tokens, lengths_D)
        self._append_prompts(group, tokens, lengths_D)
        report["documents"] += len(group)
        report["characters"] += sum(len(document.text) for document in group)
        report["tokens"] += len(tokens.ids_T)
        report["longest_document"] = max(report["longest_document"], int(lengths_D.max()))
        if self._reads_u_as_t:
            report["u_read_as_t"] += sum(document.text.count("U") + document.text.count("u") for document in group)
        if self._tokenizer.unk_id is not None:
            report["unknown_tokens"] += int(np.count_nonzero(tokens.ids_T == self._tokenizer.unk_id))
        self._histogram += np.bincount(np.log2(lengths_D).astype(np.int64), minlength=64)
        self._count_duplicates(group)

    def _part_sizes(self) -> list[int] | None:
        if not isinstance(self._source, Mixture):
            return None
        return [self._parts[number] for number in range(len(self._source.sources))]

    def _append_records(self, group: list[Document], tokens: Tokens, lengths_D: NDArray[np.int64]) -> None:
        if self._lower is None or self._starts is None or self._names is None:
            return
        records = [(self._file_numbers[document.file], document.name) for document in group]
        self._starts.append(np.array([document.start for document in group]))
        self._names.append(np.array([self._records.setdefault(record, len(self._records)) for record in records]))
        first = 0
        for document, length in zip(group, lengths_D, strict=True):
            letters = np.frombuffer(document.text.encode("ascii", "replace"), dtype=np.uint8)
            count = np.concatenate([[0], np.cumsum(letters >= ord("a"))])
            self._lower.append(np.diff(count[tokens.ends_T[first : first + length]], prepend=0) > 0)
            first += int(length)

    def _append_prompts(self, group: list[Document], tokens: Tokens, lengths_D: NDArray[np.int64]) -> None:
        """A token that reaches into the completion belongs to it."""
        if self._prompts is None:
            return
        last_D = np.cumsum(lengths_D)
        parts = zip(group, last_D - lengths_D, last_D, strict=True)
        counts = [np.searchsorted(tokens.ends_T[first:last], one.prompt, side="right") for one, first, last in parts]
        self._prompts.append(np.array(counts))

    def _count_duplicates(self, group: list[Document]) -> None:
        if len(self._seen) >= _COUNTED_DUPLICATES:
            return
        before = len(self._seen)
        self._seen.update(hash(document.text) for document in group)
        self._report["duplicate_documents"] += len(group) - (len(self._seen) - before)
