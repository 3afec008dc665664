"""`tracks`: values of characters in and out of files, summed by annotation, and seen in a browser."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from instar.config.load import load
from instar.core.errors import DataError, InputMissingError, OutputError, UsageError
from instar.core.files.disk import disk_errors
from instar.core.files.durable import publish_file, publish_folder, replace_bytes
from instar.core.files.reading import lines, resolve
from instar.data.cache import build_cache
from instar.genome.annotation import Annotation, Feature, read_features, summarise
from instar.genome.coordinates import Aliases, Interval, parse_region, read_aliases
from instar.genome.track import (
    Bounds,
    Track,
    Values,
    bedgraph_lines,
    must_be_known,
    read_bigwig,
    read_values,
    runs,
    write_bigwig,
)
from instar.masking.array_writer import ArrayWriter
from instar.masking.memory import schema_of
from instar.masking.offsets import CharacterOffsets
from instar.masking.store_options import StoreOptions
from instar.masking.value_arrays import AGE, StoreSchema, ValueArrays, encode, write_checksums
from instar.report.browser import BrowserTrack, browser_page
from instar.run.config import RunConfig
from instar.run.corpus import build_corpus
from instar.run.folder import run_folder
from instar.run.masking import STORE, offsets_of
from instar.tracks.shards import SAMPLES_PER_SHARD, Shards, write_shards
from instar.tracks.stored import (
    PLUS_ONLY,
    Stored,
    What,
    genome_of,
    lengths_of,
    must_have_chromosomes,
    of_genome,
    open_stored,
    sizes_of,
)

FileFormat = Literal["bedgraph", "bigwig", "hdf5"]
ENDINGS: Mapping[FileFormat, str] = {"bedgraph": ".bedgraph", "bigwig": ".bw", "hdf5": ""}
MOST_BASES = 2_000_000
"""Bases that one page shows at most."""
VIEWED = "tracks"
MOST_LETTERS = 100
"""Of a sequence's name in the name of a page."""


def export(
    folder: Path,
    output: Path,
    *,
    file_format: FileFormat = "bigwig",
    what: What = "value",
    shard: int | None = None,
    genome: Path | None = None,
) -> dict[str, Any]:
    """Write every store of a run or a probe that holds `what` as a track below `output`; returns what was written.

    HDF5 shards of `shard` samples lie in `output` itself where there is one store, else in a folder for each. `genome`
    is the file of the corpus whose sequences are meant, where not all are.
    """
    if shard is not None and file_format != "hdf5":
        raise UsageError(f"--shard: is about HDF5 shards (--format hdf5); {file_format} has none")
    if genome is not None and file_format == "hdf5":
        raise UsageError("--genome: is about tracks of chromosomes; HDF5 shards (--format hdf5) hold the whole corpus")
    stored = open_stored(folder, genome)
    names = stored.stores_with(what)
    if file_format != "hdf5":
        must_have_chromosomes(stored)
    written: list[str] = []
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = output / f"{name if what == 'value' else what}{ENDINGS[file_format]}"
            if file_format == "hdf5":
                path = output if len(names) == 1 else path
                write_shards(stored, name, what, path, shard or SAMPLES_PER_SHARD)
            elif file_format == "bigwig":
                track = stored.track(name, what)
                must_be_known(path, track)
                with publish_file(path) as temporary:
                    write_bigwig(temporary, track)
            else:
                replace_bytes(path, "".join(bedgraph_lines(stored.track(name, what))).encode())
            written.append(str(path))
    return {"written": written, "notices": [*stored.notices, *stored.units(what)]}


def import_values(run: Path, given: Path, *, shard: int | None = None, genome: Path | None = None) -> dict[str, Any]:
    """Make the store of a run that has not begun from a track: bedGraph, wiggle, bigWig, or a folder of HDF5 shards.

    `run` is a run file, or a run folder without a store; values are 0 to 1, a share of the statistic's scale. `shard`
    is how many samples a shard has, where the shards do not record it; `genome` the file of the corpus whose sequences
    a track is of. The store is there whole or not at all.
    """
    folder, stored = _corpus_of(run)
    masking = getattr(stored.config.task, "masking", None)
    if not isinstance(masking, StoreOptions):
        raise UsageError(f"{run}: its masking keeps no values; set task.masking.kind: adaptive")
    path = Path(masking.store) if masking.store else folder / STORE
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: a folder for the store is expected here; move it away")
    if path.exists() and any(path.iterdir()):
        raise UsageError(f"{path}: holds a store; values are imported into a run that has none")
    if shard is not None and not given.is_dir():
        raise UsageError(f"--shard: is about a folder of HDF5 shards; {given} is none")
    if genome is not None and given.is_dir():
        raise UsageError("--genome: is about tracks of chromosomes; HDF5 shards hold the whole corpus")
    stored = of_genome(stored, genome)
    schema = schema_of(masking, stored.offsets, stored.tokenizer.vocab_size)
    values = _given_values(stored, schema, given, shard)
    if schema.num_characters > stored.offsets.num_characters:
        values.notices.append(f"{given}: {PLUS_ONLY}; the minus strand begins unseen")
    with publish_folder(path) as temporary:
        known = _fill(temporary, schema, stored.offsets, values.parts)
    characters = stored.offsets.num_characters
    return {"store": str(path), "characters": characters, "known": known, **values.facts, "notices": values.notices}


def _fill(folder: Path, schema: StoreSchema, offsets: CharacterOffsets, parts: Iterable[tuple[int, Values]]) -> int:
    """Make a store of (document, its values); returns how many are known."""
    ValueArrays.create(folder, schema)
    known = 0
    with ArrayWriter(folder, schema) as writer:
        for document, part in parts:
            first = offsets.at(document)
            for name in schema.channels:
                writer.put_from(name, first, encode(part, schema.dtype))
            if schema.tick:
                writer.put_from(AGE, first, ~np.isnan(part))  # as if measured in the first steps
            known += int((~np.isnan(part)).sum())
    write_checksums(folder, schema)
    return known


def summary(
    folder: Path,
    annotation: Path,
    *,
    what: What = "value",
    aliases: Path | None = None,
    genome: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """A row for each store and class of features: bases, how many are known, and their mean.

    `log` gets what was skipped.
    """
    stored = open_stored(folder, genome)
    found = features_of(annotation, sizes_of(genome_of(stored)), aliases)
    for line in (*stored.notices, *stored.units(what), *found.notices(annotation)):
        log(line)
    rows = []
    for name in stored.stores_with(what):
        rows += [{"track": name, **vars(row)} for row in summarise(stored.track(name, what), found.features)]
    return rows


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a page is to show."""

    region: str | None = None
    annotation: Path | None = None
    aliases: Path | None = None
    genome: Path | None = None
    """The file of the corpus whose sequences are meant; None: all."""
    output: Path | None = None


def view(folder: Path, shown: Shown) -> dict[str, Any]:
    """Write one page that needs no network: the genome, its annotation and the tracks of a region."""
    stored = open_stored(folder, shown.genome)
    source = genome_of(stored)
    sizes = sizes_of(source)
    names = _aliases(sizes, shown.aliases)
    interval = parse_region(shown.region or next(iter(sizes)), sizes, names)
    if len(interval) > MOST_BASES:
        raise UsageError(
            f"region: {interval} has {len(interval):,} bases; a page shows {MOST_BASES:,} at most; name a part, like "
            f"--region {interval.chromosome}:{interval.start}-{interval.start + 100_000}"
        )
    found = Annotation([]) if shown.annotation is None else features_of(shown.annotation, sizes, shown.aliases)
    page = browser_page(
        title=f"{folder.name}: {interval}",
        interval=interval,
        size=sizes[interval.chromosome],
        sequence=source.bases(interval),
        tracks=list(_browser_tracks(stored, interval)),
        features=[one for one in found.features if _meets(one, interval)],
    )
    path = shown.output or folder / VIEWED / _page_name(interval)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, page)
    notices = [
        *stored.notices,
        *stored.units("value"),
        *(() if shown.annotation is None else found.notices(shown.annotation)),
    ]
    return {"page": str(path), "region": str(interval), "bytes": len(page), "notices": notices}


def _page_name(interval: Interval) -> str:
    """A file's name for a region; names of sequences may hold any character and be of any length."""
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", interval.chromosome)
    if stem != interval.chromosome or len(stem) > MOST_LETTERS:
        stem = f"{stem[:MOST_LETTERS]}-{hashlib.sha256(interval.chromosome.encode()).hexdigest()[:8]}"
    return f"{stem}_{interval.start}-{interval.end}.html"


def features_of(path: Path, sizes: Mapping[str, int], aliases: Path | None = None) -> Annotation:
    """The features of a GFF3, GTF or BED file, packed or not."""
    file = resolve(str(path))[0]
    return read_features(lines(file), str(path), sizes, aliases=_aliases(sizes, aliases))


def _aliases(sizes: Mapping[str, int], path: Path | None) -> Aliases:
    return Aliases(sizes, () if path is None else read_aliases(lines(resolve(str(path))[0]), str(path)))


def _meets(feature: Feature, interval: Interval) -> bool:
    same = feature.interval.chromosome == interval.chromosome
    return same and feature.interval.start < interval.end and interval.start < feature.interval.end


def _browser_tracks(stored: Stored, interval: Interval) -> Iterator[BrowserTrack]:
    for name, store in stored.stores.items():
        wanted: Sequence[What] = ("value",)
        if store.schema.statistic == "one_minus_p":
            wanted = ("value", "p_true", "age") if store.schema.tick else ("value", "p_true")
        for what in wanted:
            values = stored.track(name, what)[interval.chromosome][interval.start : interval.end]
            shown_name = {"value": f"masking value ({name})", "p_true": "p_true", "age": "step of the last look"}[what]
            shown_name = name if store.schema.statistic == name and name not in ("one_minus_p",) else shown_name
            yield BrowserTrack(shown_name, tuple(runs(values, interval.start)), None if what == "age" else 1.0)


# ---- reading back ----


def _corpus_of(run: Path) -> tuple[Path, Stored]:
    """(run folder, corpus) of a run that has no store yet."""
    file = run if run.is_file() else run / "run.yaml"
    if not file.is_file():
        raise InputMissingError(f"{run}: is neither a run file nor a run folder with its run.yaml")
    config = load(file, RunConfig).value
    folder = run_folder(file, config, None).path if run.is_file() else run
    tokenizer = build_corpus(config, lambda _: None).tokenizer
    cache = build_cache(config.data.train, tokenizer, config.data.cache_folder())
    offsets = offsets_of(config, cache)
    return folder, Stored(config=config, tokenizer=tokenizer, cache=cache, offsets=offsets, stores={}, notices=())


@dataclass(frozen=True)
class _Given:
    """Values that were checked, by document, and what is to be reported of them."""

    parts: Iterable[tuple[int, Values]]
    facts: Mapping[str, int]
    notices: list[str]


def _given_values(stored: Stored, schema: StoreSchema, given: Path, shard: int | None) -> _Given:
    if given.is_dir():
        shards = Shards(stored, schema, given, shard)
        return _Given(shards.values(), shards.facts(), list(shards.notices()))
    file = resolve(str(given))[0]
    notices: list[str] = []
    track = _read_track(file, sizes_of(genome_of(stored)), notices.append)
    return _Given(_parts_of(stored, track), {}, notices)


def _parts_of(stored: Stored, track: Track) -> Iterator[tuple[int, Values]]:
    lengths = lengths_of(stored.offsets)
    for document in stored.documents():
        start = stored.cache.start(document)
        yield document, track[stored.cache.name(document)][start : start + lengths[document]]


def _read_track(file: Path, sizes: Mapping[str, int], log: Callable[[str], None]) -> Track:
    if file.suffix.lower() in (".bw", ".bigwig"):
        track = read_bigwig(file, sizes, log=log)
        outside = [name for name, part in track.items() if ((part < 0) | (part > 1)).any()]
        if outside:
            raise DataError(f"{file}: has values outside 0 to 1 on {', '.join(outside[:5])}")
        return track
    return read_values(lines(file), str(file), sizes, bounds=Bounds(), log=log)
