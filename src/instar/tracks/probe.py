"""`probe`: how well a frozen checkpoint predicts every token of a corpus, masked exactly once.

Letters: M positions of a pass, N characters.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import OutputError, UsageError
from instar.core.files.disk import disk_errors, must_have_room
from instar.core.files.durable import replace_bytes
from instar.core.files.json_files import to_json, write_json
from instar.core.files.temporary import remove
from instar.data import Batch
from instar.data.cache import build_cache
from instar.data.located import Located
from instar.data.samples import Samples
from instar.data.source import Genome, Source
from instar.inference.division import Division
from instar.inference.probe import BASES, PassScores, Prober, from_arrays, letters_of, to_arrays
from instar.masking.array_writer import ArrayWriter
from instar.masking.offsets import CharacterOffsets, Spans
from instar.masking.statistic import scale_of
from instar.masking.value_arrays import StoreSchema, ValueArrays, encode, write_checksums
from instar.run.config import RunConfig
from instar.run.corpus import cut_of, must_be_known
from instar.run.division import divided, division, must_be_alike
from instar.run.masking import offsets_of
from instar.run.prepare import EVALUATION_TOKENS
from instar.run.saved import Saved, take_up
from instar.run.source import source_like
from instar.tracks.stored import PROBE, sizes_of
from instar.tracks.transfer import export
from instar.trainer.callbacks.untouched import must_be_untouched, weights_digest

MEASURES = ("p_true", "nll", "reciprocal_rank", "entropy")
Tracks = Literal["bigwig", "bedgraph", "none"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a checkpoint is probed."""

    data: Path | None = None
    """The file to read instead of the run's training data, in the same way."""
    rate: float | None = None
    """Share of the tokens masked at once; by default that of the run's evaluation."""
    tracks: Tracks = "bigwig"
    """Genome tracks written beside the values; a text has none."""


@divided
def probe(checkpoint: Path, output: Path, asked: Asked) -> dict[str, Any]:
    """Write how well the checkpoint predicts every token into a new folder; its weights are proven untouched.

    Processes divide the batches, and the main one writes.
    """
    saved, shared = take_up(checkpoint), division()
    config = _config(saved, asked)
    rate = _rate(config) if asked.rate is None else asked.rate
    if not 0 < rate <= 1:
        raise UsageError(f"--rate: wanted a number above 0 and at most 1; got {rate}")
    if shared.is_main:
        _must_be_new(output)
    if asked.tracks != "none" and isinstance(config.data.train, Genome):
        _must_have_tracks(config.data.train)
    cache = build_cache(config.data.train, saved.tokenizer, config.data.cache_folder(), processes=config.data.processes)
    must_be_alike(saved, data=f"content {cache.fingerprint}")
    allowed = config.data.allow_unknown_tokens
    warning = must_be_known(str(asked.data or "data.train"), cache, saved.tokenizer, is_allowed=allowed)
    cut = cut_of(config.model_copy(update={"data": _windows(config)}), saved.network)
    offsets = offsets_of(config, cache)
    located = Located(Samples(cache, saved.tokenizer, cut), offsets.first_N[:-1])
    digest = weights_digest(saved.network)
    scores = _scored(_prober(saved, config, rate), located, shared)
    if not shared.is_main:
        deque(scores, maxlen=0)
        must_be_untouched(saved.network, digest)
        shared.exchange(b"")
        return {}
    with _new_folder(output):
        is_genome = isinstance(config.data.train, Genome)
        arrays = _MeasureStores(output / PROBE, offsets, saved.tokenizer.vocab_size, with_bases=is_genome)
        with arrays:
            for index_D, passes in scores:
                arrays.write(_gathered(located, index_D), passes)
        must_be_untouched(saved.network, digest)
        shared.exchange(b"")  # the weights of all processes are untouched
        arrays.finish()
        saved.tokenizer.save(output)
        replace_bytes(output / "run.yaml", to_json(config.model_dump(mode="json", by_alias=True)))
        facts = {"checkpoint": str(checkpoint), "rate": rate, "tokens": arrays.count, "weights_sha256": digest}
        write_json(output / "probe.json", facts | arrays.means())
    counted = cache.token_count.facts() | ({} if warning is None else {"warning": warning})
    written = _tracks(output, config.data.train, asked.tracks)
    return {"output": str(output), **facts, **arrays.means(), "weights": "untouched", "tracks": written, **counted}


def _prober(saved: Saved, config: RunConfig, rate: float) -> Prober:
    return Prober(
        network=saved.network,
        tokenizer=saved.tokenizer,
        device=saved.runtime.device,
        rate=rate,
        seed=config.seed,
        letters_V=letters_of(saved.tokenizer) if isinstance(config.data.train, Genome) else None,
    )


def _config(saved: Saved, asked: Asked) -> RunConfig:
    """The run's config with the corpus that is probed."""
    config = saved.config
    if not config.task.masks:
        raise UsageError(f"{saved.folder}: probing masks tokens, so it needs a checkpoint of the task mlm")
    if asked.data is None:
        return config
    source: Source = source_like(config.data.train, asked.data, labelled=False)
    return config.model_copy(update={"data": config.data.model_copy(update={"train": source, "eval": None})})


def _windows(config: RunConfig) -> Any:
    return config.data.model_copy(update={"too_long": "window", "overlap": 0})


def _rate(config: RunConfig) -> float:
    rate = config.task.masking_rate
    if rate is None:
        raise TypeError("only a masked language model has a rate")
    return rate


def _must_be_new(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: is there already; choose another --output")


@contextmanager
def _new_folder(output: Path) -> Iterator[None]:
    """A folder that is made, and gone again where what is done in it fails."""
    try:
        with disk_errors(output):
            output.mkdir(parents=True, exist_ok=True)
            yield
    except BaseException:
        remove(output)
        raise


def _must_have_tracks(source: Genome) -> None:
    """UsageError, before the work begins, where two files have sequences of one name."""
    try:
        sizes_of(source)
    except UsageError as error:
        raise UsageError(f"{error}; with --tracks none the values are kept without tracks") from error


def _scored(prober: Prober, located: Located, shared: Division) -> Iterator[tuple[NDArray[np.int64], list[PassScores]]]:
    """The samples of each batch, and the scores of each pass over them, in order; each process computes some."""
    remaining = _batches(located)
    while batches := list(islice(remaining, shared.size)):
        mine = [scores for index_D in shared.mine(batches) for scores in prober.ask(_gathered(located, index_D))]
        yield from zip(batches, map(from_arrays, shared.arrays(to_arrays(mine))), strict=False)


def _batches(located: Located) -> Iterator[NDArray[np.int64]]:
    first, size = 0, max(1, EVALUATION_TOKENS)
    while first < len(located):
        lengths = located.lengths(np.arange(first, min(len(located), first + size)))
        taken = max(1, int(np.searchsorted(np.cumsum(lengths), size, side="right")))
        yield np.arange(first, first + taken)
        first += taken


def _gathered(located: Located, index_D: NDArray[np.int64]) -> Batch:
    return located.gather(index_D, np.zeros(len(index_D), dtype=np.int64))


class _MeasureStores:
    """One store a measure, written in place; `with` puts the values on the disk."""

    def __init__(self, folder: Path, offsets: CharacterOffsets, vocab_size: int, *, with_bases: bool) -> None:
        nats = scale_of("nll", vocab_size)
        scales = {"p_true": 1.0, "nll": nats, "reciprocal_rank": 1.0, "entropy": nats}
        scales |= dict.fromkeys((f"probability_{base}" for base in BASES), 1.0) if with_bases else {}
        self._folder = folder
        self._forms = {
            name: StoreSchema(
                fingerprint=offsets.fingerprint,
                num_characters=offsets.num_characters,
                statistic=name,
                scale=scale,
                dtype="float16",
            )
            for name, scale in scales.items()
        }
        self._writers: dict[str, ArrayWriter] = {}
        must_have_room(folder, sum(sum(schema.sizes().values()) for schema in self._forms.values()))
        self._sums = dict.fromkeys(MEASURES, 0.0)
        self.count = 0
        for name, schema in self._forms.items():
            ValueArrays.create(folder / name, schema)

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for name, schema in self._forms.items():
                self._writers[name] = stack.enter_context(ArrayWriter(self._folder / name, schema))
            self._stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, batch: Batch, passes: Iterable[PassScores]) -> None:
        """Put the scores of a batch where its characters lie."""
        for scores in passes:
            self._write_pass(batch, scores)

    def _write_pass(self, batch: Batch, scores: PassScores) -> None:
        if batch.starts_T is None or batch.characters_T is None:
            raise ValueError("the batch holds no offsets of its characters")
        spans = Spans(batch.starts_T.numpy(), batch.characters_T.numpy())[scores.index_M]
        index_N, length_M = spans.characters(), spans.length_T
        values: Mapping[str, NDArray[np.float32]] = {
            "p_true": np.exp(-scores.nll_M),
            "nll": scores.nll_M,
            "reciprocal_rank": (1 / scores.rank_M).astype(np.float32),
            "entropy": scores.entropy_M,
        }
        for name, value_M in values.items():
            self._sums[name] += float(value_M.sum(dtype=np.float64))
            self._put(name, index_N, np.repeat(value_M, length_M))
        self.count += len(scores.index_M)
        if scores.bases_MK4 is not None:
            letter_N = np.arange(len(index_N)) - np.repeat(np.cumsum(length_M) - length_M, length_M)
            row_N = np.repeat(np.arange(len(length_M)), length_M)
            probabilities_N4 = scores.bases_MK4[row_N, np.minimum(letter_N, scores.bases_MK4.shape[1] - 1)]
            for number, base in enumerate(BASES):
                self._put(f"probability_{base}", index_N, probabilities_N4[:, number])

    def _put(self, name: str, index_N: NDArray[np.int64], values_N: NDArray[np.float32]) -> None:
        scaled_N = values_N / np.float32(self._forms[name].scale)
        self._writers[name].put("value", index_N, encode(scaled_N, "float16"))

    def finish(self) -> None:
        """All of it is there, with its CRCs."""
        for name, schema in self._forms.items():
            write_checksums(self._folder / name, schema)

    def means(self) -> dict[str, float]:
        """Mean of each measure over the tokens."""
        return {f"mean_{name}": total / max(1, self.count) for name, total in self._sums.items()}


def _tracks(output: Path, source: Source, wanted: Tracks) -> list[str]:
    if wanted == "none" or not isinstance(source, Genome):
        return []
    written: list[str] = export(output, output, file_format=wanted)["written"]
    return written
