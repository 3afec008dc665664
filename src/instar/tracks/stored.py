"""The values that a run, or a probe, keeps for each character, put back where they belong: documents, chromosomes."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instar.checkpoint.protocol import damage
from instar.core.errors import CheckpointError, InputMissingError, UsageError
from instar.core.rundir import RunFolder
from instar.data.cache import TokenCache, build_cache
from instar.data.source import Genome, Mixture, Source
from instar.data.tokenizer import Tokenizer
from instar.genome.coordinates import few
from instar.genome.track import Track, Values, empty_track
from instar.masking.offsets import CharacterOffsets
from instar.masking.store import ProbabilityStore
from instar.masking.update import Rule
from instar.masking.value_arrays import AGE, HEADER, Decoder, must_match, read_header
from instar.run.config import RunConfig
from instar.run.folder import read_run_file
from instar.run.masking import STORE, offsets_of

PROBE = "probe"
"""Folder of the measurements in what `instar probe` wrote."""
NO_AGES = "this store keeps no ages; it does where task.masking.decay is above 0"
PLUS_ONLY = "the strands have values of their own (task.masking.strands: apart); these are those of the plus strand"
What = Literal["value", "p_true", "age"]


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A store with the corpus it is of."""

    config: RunConfig
    tokenizer: Tokenizer
    cache: TokenCache
    offsets: CharacterOffsets
    stores: dict[str, ProbabilityStore]
    """By the name of what they hold."""
    notices: tuple[str, ...]
    genome: Path | None = None
    """The file whose sequences are meant; None: all files."""

    @property
    def source(self) -> Source:
        """The corpus's files."""
        return self.config.data.train

    def values(self, name: str, document: int) -> Values:
        """(B,) numbers of a document's characters, 0 to 1; NaN where nothing is known."""
        store = self.stores[name]
        first, last = (self.offsets.at(number) for number in (document, document + 1))
        return Decoder(store.schema.dtype, np.nan)(np.asarray(store.mapped.arrays["value"][first:last]))

    def stores_with(self, what: What) -> list[str]:
        """The stores that hold `what`; UsageError where none does."""
        if what == "value":
            return list(self.stores)
        if what == "age":
            names = [name for name, store in self.stores.items() if AGE in store.mapped.arrays]
            if not names:
                raise UsageError(NO_AGES)
            return names
        measured = {store.schema.statistic: name for name, store in self.stores.items()}
        found = next((measured[one] for one in ("p_true", "one_minus_p", "nll") if one in measured), None)
        if found is None:
            raise UsageError(f"p_true cannot be computed from {few(measured)}; ask for value")
        return [found]

    def units(self, what: What) -> Iterator[str]:
        """What is to be reported of values that are shares of a number of nats, or of one strand only."""
        for name in self.stores_with(what):
            if self.stores[name].schema.num_characters > self.offsets.num_characters:
                yield f"{name}: {PLUS_ONLY}"
        for name in self.stores_with(what) if what == "value" else ():
            scale = self.stores[name].schema.scale
            if scale != 1:
                yield f"{name}: values are shares of {scale:.4f} nats, so 0.5 means {scale / 2:.4f}"

    def track(self, name: str, what: What = "value") -> Track:
        """A store's values on the chromosomes of a genome; UsageError for a text, which has none."""
        track = empty_track(sizes_of(genome_of(self)))
        for document in self.documents():
            values = self.quantity(name, what, document)
            start = self.cache.start(document)
            track[self.cache.name(document)][start : start + len(values)] = values
        return track

    def documents(self) -> Iterator[int]:
        """Numbers of the documents of the file that is meant, or of all."""
        for document in range(self.cache.num_documents):
            if self.genome is None or self.cache.file(document) == self.genome:
                yield document

    def quantity(self, name: str, what: What, document: int) -> Values:
        """(B,) `what` of a document's characters; UsageError where the store does not hold it."""
        store = self.stores[name]
        if what == "age":
            return self._ages(store, document)
        values = self.values(name, document)
        if what == "value" or store.schema.statistic == "p_true":
            return values
        if store.schema.statistic == "one_minus_p":
            return 1 - values
        if store.schema.statistic == "nll":
            likelihood: Values = np.exp(-values * np.float32(store.schema.scale))
            return likelihood
        raise UsageError(f"p_true cannot be computed from {store.schema.statistic}; ask for value")

    def _ages(self, store: ProbabilityStore, document: int) -> Values:
        if AGE not in store.mapped.arrays:
            raise UsageError(NO_AGES)
        first, last = (self.offsets.at(number) for number in (document, document + 1))
        ticks = np.asarray(store.mapped.arrays[AGE][first:last]).astype(np.float32)
        return np.where(ticks == 0, np.float32(np.nan), (ticks - 1) * store.schema.tick)


def open_stored(folder: Path, genome: Path | None = None) -> Stored:
    """What a run folder or the output of `instar probe` keeps, in its newest state; nothing is changed.

    `genome` is the file of the corpus whose sequences are meant, where not all are. A torn last record of a run that
    was killed is left out, with a notice.
    """
    is_probe = (folder / PROBE).is_dir()
    run_file = folder / "run.yaml"
    if not run_file.is_file():
        raise InputMissingError(f"{folder}: is neither a run folder nor the output of `instar probe`")
    config = read_run_file(run_file)
    tokenizer = Tokenizer.load(folder if is_probe else _newest(folder))
    cache = build_cache(config.data.train, tokenizer, config.data.cache_folder(), processes=config.data.processes)
    offsets = offsets_of(config, cache)
    paths = sorted((folder / PROBE).iterdir()) if is_probe else [_store_of(folder, config)]
    stores, notices = {}, []
    for path in paths:
        schema = read_header(path)
        must_match(path, schema, type(schema)(**{**vars(schema), "fingerprint": offsets.fingerprint}))
        store = ProbabilityStore(path, schema, rule=Rule())
        notices += store.latest()
        store.verify()
        stores[path.name if is_probe else schema.statistic] = store
    stored = Stored(
        config=config, tokenizer=tokenizer, cache=cache, offsets=offsets, stores=stores, notices=tuple(notices)
    )
    return of_genome(stored, genome)


def _store_of(folder: Path, config: RunConfig) -> Path:
    named = getattr(getattr(config.task, "masking", None), "store", None)
    path = Path(named) if named else folder / STORE
    if not (path / HEADER).is_file():
        raise InputMissingError(
            f"{folder}: keeps no masking probabilities; they are made by a run with task.masking.kind: adaptive, or by "
            "`instar probe`"
        )
    return path


def _newest(folder: Path) -> Path:
    checkpoints = RunFolder(folder).checkpoints()
    if not checkpoints:
        raise InputMissingError(f"{folder}: has no checkpoint yet, and the tokenizer is in there")
    reason = damage(checkpoints[-1][1])
    if reason is not None:
        raise CheckpointError(reason)
    return checkpoints[-1][1]


# ---- the genome itself ----


def of_genome(stored: Stored, genome: Path | None) -> Stored:
    """The same, of which one file of the corpus is meant; UsageError for another file."""
    if genome is None:
        return stored
    files = stored.source.files()
    found = next((path for path in files if path.resolve() == genome.resolve()), None)
    if found is None:
        raise UsageError(f"--genome: {genome} is no file of this run's training data: {few(map(str, files))}")
    return replace(stored, genome=found)


def genome_of(stored: Stored) -> Genome:
    """The source of the genome that is meant; UsageError for a text, which has no chromosomes."""
    source = stored.source
    parts = source.parts if isinstance(source, Mixture) else [source]
    chosen = [part for part in parts if isinstance(part, Genome)]
    if not chosen:
        raise UsageError(
            "a text has no chromosomes; see `instar report`, or export and import its values with --format hdf5"
        )
    if stored.genome is not None:
        mine = next(part for part in chosen if stored.genome in part.files())
        return mine.model_copy(update={"path": str(stored.genome), "left_out": []})
    if len(chosen) > 1:
        raise UsageError(
            f"the training data are a mixture of genomes; name the file whose sequences are meant: --genome FILE, one "
            f"of {few(map(str, source.files()))}"
        )
    return chosen[0]


def must_have_chromosomes(stored: Stored) -> None:
    """UsageError for a text, and where two files have sequences of one name and none is meant."""
    source = genome_of(stored)
    if stored.genome is None and stored.cache.has_equal_names:
        sizes_of(source)


def sizes_of(source: Genome) -> dict[str, int]:
    """Bases of each chromosome of which something is read; UsageError where two files have sequences of one name."""
    sizes: dict[str, int] = {}
    first: dict[str, Path] = {}
    for path, name, size in source.sizes():
        if name in sizes:
            raise UsageError(
                f"{first[name]} and {path} both have a sequence {name!r}; name the file that is "
                "meant: --genome FILE (`instar tracks export`, `import`, `summary`, `view`), or rename one of them"
            )
        sizes[name], first[name] = size, path
    return sizes


def lengths_of(offsets: CharacterOffsets) -> NDArray[np.int64]:
    """(N,) characters of each document."""
    return np.diff(offsets.first_N)
