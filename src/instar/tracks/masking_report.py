"""What a report shows of a run's store: values along the corpus, coverage, ages, means by annotation over time."""

from collections.abc import Callable, Iterator
from heapq import merge
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import CheckpointError, DataError, InputMissingError
from instar.genome.annotation import Feature
from instar.genome.coverage import Coverage
from instar.masking import journal
from instar.masking.journal import Record
from instar.masking.store import ProbabilityStore
from instar.masking.value_arrays import AGE, Decoder
from instar.report.masking import Bin, StoreFacts
from instar.tracks.stored import Stored, genome_of, open_stored, sizes_of
from instar.tracks.transfer import features_of

BINS = 300
"""Stretches of the corpus that a figure shows."""
MOMENTS = 8
"""Times at which the means by annotation are taken."""
KINDS = 8
"""Classes that are followed: those with the most bases."""
_SCAN = 1 << 24
_AGES = (0, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def store_facts(
    run: Path, annotation: Path | None = None, log: Callable[[str], None] = lambda _: None
) -> StoreFacts | None:
    """Facts of the run's store; None for a run that keeps none, or whose data are gone.

    `log` gets why a run's values cannot be shown, and which features of the annotation were skipped.
    """
    try:
        stored = open_stored(run)
    except (InputMissingError, DataError, CheckpointError) as error:
        if annotation is not None:
            raise
        log(f"{error}; the figures of the masking values are left out")
        return None
    name, store = next(iter(stored.stores.items()))
    arrays = store.mapped.arrays["value"]
    values, known = np.zeros(10, dtype=np.int64), 0
    decode = Decoder(store.schema.dtype, np.nan)
    for first in range(0, len(arrays), _SCAN):
        part = decode(np.asarray(arrays[first : first + _SCAN]))
        part = part[~np.isnan(part)]
        known += len(part)
        values += np.bincount(np.minimum((part * 10).astype(np.int64), 9), minlength=10)
    features = [] if annotation is None else _features(stored, annotation, log)
    return StoreFacts(
        statistic=name,
        coverage=known / max(1, len(arrays)),
        bins=tuple(_bins(stored, name)),
        values=tuple(values.tolist()),
        ages=tuple(_ages(store)),
        classes=tuple(_classes(stored, store, features)) if features else (),
    )


def _features(stored: Stored, annotation: Path, log: Callable[[str], None]) -> list[Feature]:
    found = features_of(annotation, sizes_of(genome_of(stored)))
    for line in found.notices(annotation):
        log(line)
    return found.features


def _bins(stored: Stored, name: str) -> Iterator[Bin]:
    """Some hundred stretches of equal length; documents of a text run together, chromosomes do not."""
    cache = stored.cache
    parts_of: dict[int, list[NDArray[np.float32]]] = {}
    names: dict[int, str] = {}
    for document in range(cache.num_documents):
        record, file = cache.record(document), cache.file(document)
        names[record] = cache.name(document) + (f" ({file.name})" if file and cache.has_equal_names else "")
        parts_of.setdefault(record, []).append(stored.values(name, document))
    total = sum(len(part) for parts in parts_of.values() for part in parts)
    size = max(1, -(-total // BINS))
    for record, parts in parts_of.items():
        name = names[record]
        whole = np.concatenate(parts)
        for start in range(0, len(whole), size):
            part = whole[start : start + size]
            known = part[~np.isnan(part)]
            mean = float(known.mean()) if len(known) else float("nan")
            yield Bin(name, start, start + len(part), mean, len(known) / len(part))


def _ages(store: ProbabilityStore) -> Iterator[tuple[int, int]]:
    if AGE not in store.mapped.arrays:
        return
    ticks = np.asarray(store.mapped.arrays[AGE])
    seen = ticks[ticks > 0].astype(np.int64)
    if not len(seen):
        return
    since = (int(seen.max()) - seen) * store.schema.tick
    counts = np.histogram(since, [*_AGES, np.iinfo(np.int64).max])[0]
    last = int(np.flatnonzero(counts)[-1])
    yield from zip(_AGES[: last + 1], counts[: last + 1].tolist(), strict=True)


def _classes(stored: Stored, store: ProbabilityStore, features: list[Feature]) -> Iterator[tuple[int, str, float]]:
    """Means by class from the journal, from what is compacted to the newest record."""
    classes = _Classes(stored, features)
    records = list(_steps(store))
    if not records:
        return
    first, last = records[0], records[-1]
    steps = np.unique(np.linspace(first, last, MOMENTS).astype(np.int64)).tolist()
    again = ProbabilityStore(store.folder, store.schema, rule=store.rule)
    decode = Decoder(store.schema.dtype, np.nan)
    for record in _records(store):
        while steps and record.step > steps[0]:
            yield from classes.means(steps.pop(0), decode(np.asarray(again.mapped.arrays["value"])))
        again.apply(again.change_of(record))
    for step in steps:
        yield from classes.means(step, decode(np.asarray(again.mapped.arrays["value"])))


def _records(store: ProbabilityStore) -> Iterator[Record]:
    compacted = store.schema.compacted
    each = [journal.read(store.folder, rank, compacted.get(str(rank), 0), None) for rank in journal.ranks(store.folder)]
    return merge(*each, key=lambda record: record.step)


def _steps(store: ProbabilityStore) -> Iterator[int]:
    return (record.step for record in _records(store))


class _Classes:
    """Which characters of the arrays lie in the classes that are followed."""

    def __init__(self, stored: Stored, features: list[Feature]) -> None:
        kinds: dict[str, int] = {}
        parts_of: dict[str, list[tuple[int, int, int]]] = {}
        for feature in features:
            number = kinds.setdefault(feature.kind, len(kinds))
            parts_of.setdefault(feature.interval.chromosome, []).append(
                (number, feature.interval.start, feature.interval.end)
            )
        documents = _documents(stored)
        parts = [_in_arrays(np.array(rows), documents[name]) for name, rows in parts_of.items() if name in documents]
        none = np.zeros((3, 0), dtype=np.int64)
        kind_F, start_F, end_F = np.concatenate([none, *parts], axis=1)
        self._coverage = Coverage(kind_F, start_F, end_F, num_kinds=len(kinds), size=stored.offsets.num_characters)
        bases_K = self._coverage.bases_K
        names = list(kinds)
        self._followed = [(number, names[number]) for number in np.argsort(-bases_K, kind="stable")[:KINDS].tolist()]

    def means(self, step: int, values: NDArray[np.float32]) -> Iterator[tuple[int, str, float]]:
        """(step, class, mean of what is known of it) for each class that is followed."""
        known_K, sum_K = self._coverage.sums(values[: self._coverage.size])
        for number, name in self._followed:
            yield step, name, float(sum_K[number] / known_K[number]) if known_K[number] else float("nan")


def _documents(stored: Stored) -> dict[str, NDArray[np.int64]]:
    """(3, D) by chromosome, in its order: where each document starts and ends on it, and its index in the arrays."""
    rows: dict[str, list[tuple[int, int, int]]] = {}
    for document in range(stored.cache.num_documents):
        start, first = stored.cache.start(document), stored.offsets.at(document)
        length = stored.offsets.at(document + 1) - first
        rows.setdefault(stored.cache.name(document), []).append((start, start + length, first))
    return {name: np.array(sorted(each), dtype=np.int64).T for name, each in rows.items()}


def _in_arrays(features: NDArray[np.int64], documents: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, G): class, start and end in the arrays of what lies in documents, of (F, 3) features on a chromosome."""
    kind_F, start_F, end_F = features.T
    begin_D, finish_D, first_D = documents
    low_F = np.searchsorted(finish_D, start_F, side="right")
    count_F = np.maximum(np.searchsorted(begin_D, end_F, side="left") - low_F, 0)
    feature_G = np.repeat(np.arange(len(kind_F)), count_F)
    document_G = np.arange(len(feature_G)) + np.repeat(low_F - (np.cumsum(count_F) - count_F), count_F)
    start_G = np.maximum(start_F[feature_G], begin_D[document_G])
    end_G = np.minimum(end_F[feature_G], finish_D[document_G])
    shift_G = first_D[document_G] - begin_D[document_G]
    return np.stack([kind_F[feature_G], start_G + shift_G, end_G + shift_G])
