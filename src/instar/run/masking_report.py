"""What a run's store says for its report: values along the corpus, coverage, ages, means by annotation over time."""

from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import CheckpointError, DataError, InputMissingError
from instar.data.source import Fasta
from instar.genome.annotation import Feature
from instar.masking import journal
from instar.masking.journal import Record
from instar.masking.plane import AGE, Decoder
from instar.masking.store import ChanceStore
from instar.report.masking import Bin, StoreFacts
from instar.run.stored import Stored, open_stored, sizes_of
from instar.run.tracks import features_of

BINS = 300
"""Stretches of the corpus that a figure shows."""
MOMENTS = 8
"""Times at which the means by annotation are taken."""
KINDS = 8
"""Classes that are followed: those with the most bases."""
_SCAN = 1 << 24
_AGES = (0, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


def store_facts(run: Path, annotation: Path | None = None) -> StoreFacts | None:
    """What the run's store says; None for a run that keeps none, or whose data are gone."""
    try:
        stored = open_stored(run)
    except (InputMissingError, DataError, CheckpointError):
        if annotation is not None:
            raise
        return None
    name, store = next(iter(stored.stores.items()))
    plane = store.plane.arrays["value"]
    values, known = np.zeros(10, dtype=np.int64), 0
    decode = Decoder(store.form.dtype, np.nan)
    for first in range(0, len(plane), _SCAN):
        part = decode(np.asarray(plane[first : first + _SCAN]))
        part = part[~np.isnan(part)]
        known += len(part)
        values += np.bincount(np.minimum((part * 10).astype(np.int64), 9), minlength=10)
    features = [] if annotation is None else _features(stored, annotation)
    return StoreFacts(
        statistic=name,
        coverage=known / max(1, len(plane)),
        bins=tuple(_bins(stored, name)),
        values=tuple(values.tolist()),
        ages=tuple(_ages(store)),
        classes=tuple(_classes(stored, store, features)) if features else (),
    )


def _features(stored: Stored, annotation: Path) -> list[Feature]:
    if not isinstance(stored.source, Fasta):
        raise InputMissingError("--annotation: the run's corpus is a text, which has no features")
    return features_of(annotation, sizes_of(stored.source))


def _bins(stored: Stored, name: str) -> Iterator[Bin]:
    """Some hundred stretches of equal length; documents of a text run together, chromosomes do not."""
    places: dict[str, list[NDArray[np.float32]]] = {}
    for document in range(stored.cache.num_documents):
        places.setdefault(stored.cache.name(document), []).append(stored.values(name, document))
    total = sum(len(part) for parts in places.values() for part in parts)
    size = max(1, -(-total // BINS))
    for place, parts in places.items():
        whole = np.concatenate(parts)
        for start in range(0, len(whole), size):
            part = whole[start : start + size]
            known = part[~np.isnan(part)]
            mean = float(known.mean()) if len(known) else float("nan")
            yield Bin(place, start, start + len(part), mean, len(known) / len(part))


def _ages(store: ChanceStore) -> Iterator[tuple[int, int]]:
    if AGE not in store.plane.arrays:
        return
    ticks = np.asarray(store.plane.arrays[AGE])
    seen = ticks[ticks > 0].astype(np.int64)
    if not len(seen):
        return
    since = (int(seen.max()) - seen) * store.form.tick
    counts = np.histogram(since, [*_AGES, np.iinfo(np.int64).max])[0]
    last = int(np.flatnonzero(counts)[-1])
    yield from zip(_AGES[: last + 1], counts[: last + 1].tolist(), strict=True)


def _classes(stored: Stored, store: ChanceStore, features: list[Feature]) -> Iterator[tuple[int, str, float]]:
    """Means by class as the journal tells them, from what is folded to the newest record."""
    masks = _masks(stored, features)
    records = list(_steps(store))
    if not records:
        return
    first, last = records[0], records[-1]
    marks = np.unique(np.linspace(first, last, MOMENTS).astype(np.int64)).tolist()
    again = ChanceStore(store.folder, store.form, rule=store.rule)
    decode = Decoder(store.form.dtype, np.nan)
    for record in _records(store):
        while marks and record.step > marks[0]:
            yield from _means(marks.pop(0), decode(np.asarray(again.plane.arrays["value"])), masks)
        again.apply(again.change_of(record))
    for mark in marks:
        yield from _means(mark, decode(np.asarray(again.plane.arrays["value"])), masks)


def _records(store: ChanceStore) -> Iterator[Record]:
    folded = store.form.folded
    each = [journal.read(store.folder, rank, folded.get(str(rank), 0), None) for rank in journal.ranks(store.folder)]
    return merge(*each, key=lambda record: record.step)


def _steps(store: ChanceStore) -> Iterator[int]:
    return (record.step for record in _records(store))


def _masks(stored: Stored, features: list[Feature]) -> dict[str, NDArray[np.bool_]]:
    """Class -> which characters of the plane lie in it."""
    starts: dict[str, list[tuple[int, int, int]]] = {}
    for document in range(stored.cache.num_documents):
        first, last = stored.layout.place(document), stored.layout.place(document + 1)
        starts.setdefault(stored.cache.name(document), []).append((stored.cache.start(document), first, last - first))
    masks: dict[str, NDArray[Any]] = {}
    for feature in features:
        mask = masks.setdefault(feature.kind, np.zeros(stored.layout.num_characters, dtype=np.bool_))
        for start, first, length in starts.get(feature.place.chromosome, []):
            low, high = max(0, feature.place.start - start), min(length, feature.place.end - start)
            mask[first + low : first + max(low, high)] = True
    largest = sorted(masks, key=lambda kind: -int(masks[kind].sum()))[:KINDS]
    return {kind: masks[kind] for kind in largest}


def _means(
    step: int, values: NDArray[np.float32], masks: dict[str, NDArray[np.bool_]]
) -> Iterator[tuple[int, str, float]]:
    for kind, mask in masks.items():
        known = values[: len(mask)][mask]
        known = known[~np.isnan(known)]
        yield step, kind, float(known.mean()) if len(known) else float("nan")
