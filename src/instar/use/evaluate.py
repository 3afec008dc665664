"""`evaluate`: scores of a checkpoint."""

from pathlib import Path
from typing import Any, Literal

from instar.checkpoint.lineage import STATE
from instar.core.errors import DataError, InputMissingError, UsageError
from instar.core.files.disk import disk_errors
from instar.core.files.json_files import read_json
from instar.data.cache import TokenCache, build_cache
from instar.data.config import Split
from instar.data.fingerprint import cache_fingerprint
from instar.data.samples import Samples
from instar.data.source import Source
from instar.inference.evaluate import Evaluator
from instar.run.baseline import baseline, best_of, described
from instar.run.corpus import cut_of, known_labels, must_be_known
from instar.run.division import divided, division, must_be_alike
from instar.run.prepare import EVALUATION_TOKENS
from instar.run.saved import Saved, take_up
from instar.run.source import WHOLE, Part, source_like, withholds_labels

SplitName = Literal["eval", "test"]


@divided
def evaluate(
    checkpoint: Path,
    *,
    split: SplitName = "eval",
    input_file: Path | None = None,
    part: Part = WHOLE,
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """Scores on a split of the run's data, or on another file read in the same way; other splits are not read.

    `part` is what is read of the file.

    DataError if most tokens are unknown to the checkpoint's tokenizer, unless `allow_unknown` or the run allows it.
    Processes divide the batches.
    """
    return scores_of(checkpoint, split=split, input_file=input_file, part=part, allow_unknown=allow_unknown)


def scores_of(
    checkpoint: Path,
    *,
    split: SplitName = "eval",
    input_file: Path | None = None,
    part: Part = WHOLE,
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """What `evaluate` returns; the main process alone has the baseline."""
    saved, shared = take_up(checkpoint), division()
    with disk_errors(saved.config.data.cache_folder()):
        samples = _split(saved, split) if input_file is None else _given(saved, input_file, part)
    what = f"data.{split}" if input_file is None else str(input_file)
    must_be_alike(saved, **{what: f"content {samples.cache.fingerprint}, {len(samples):,} samples"})
    is_allowed = allow_unknown or saved.config.data.allow_unknown_tokens
    warning = must_be_known(what, samples.cache, saved.tokenizer, is_allowed=is_allowed)
    evaluator = Evaluator(
        network=saved.network,
        task=saved.task,
        seed=saved.config.seed,
        device=saved.runtime.device,
        label_names=saved.labels.names,
        gather=shared.gather,
    )
    size = saved.config.train.micro_tokens or EVALUATION_TOKENS
    scores = evaluator.scores(samples.batches_in_turn(size, rank=shared.rank, shares=shared.size))
    counted = samples.cache.token_count.facts() | ({} if warning is None else {"warning": warning})
    train = _trained_on(saved) if shared.is_main else None
    rows = [] if train is None else baseline(saved.config, saved.task, train, samples)
    beside = best_of(rows) | ({"baseline": described(rows)} if rows else {})
    return {"checkpoint": str(checkpoint), "split": split, **scores, **beside, **counted}


def _trained_on(saved: Saved) -> Samples | None:
    """The part of data.train that the run trained on; None where it has changed, or is not at hand as tokens."""
    data = saved.config.data
    if data.streaming is not None:
        return None  # what identifies it is not its whole content, which may be of any size
    known = known_labels(saved.config)
    try:
        fingerprint = cache_fingerprint(data.train, saved.tokenizer, known, data.cache_folder())
    except InputMissingError:
        return None
    is_built = (data.cache_folder() / fingerprint[:24]).is_dir()
    if not is_built or fingerprint != read_json(saved.folder / STATE)["data_fingerprint"]:
        return None
    samples = _samples(saved, _cached(saved, data.train, known))
    return samples.split(data.eval.fraction, data.eval.seed)[0] if isinstance(data.eval, Split) else samples


def _given(saved: Saved, path: Path, part: Part) -> Samples:
    source = part.of(source_like(saved.config.data.train, path, labelled=True))
    return _samples(saved, _cached(saved, source, saved.labels.names))


def _split(saved: Saved, name: SplitName) -> Samples:
    """The samples of one of the run's splits; InputMissingError names the file that is gone, and the way around it."""
    data = saved.config.data
    wanted = data.eval if name == "eval" else data.test
    if wanted is None:
        raise UsageError(
            f"{saved.folder}: its run has no data.{name}; name a file with --input, or train with a {name} split"
        )
    needed = data.train if isinstance(wanted, Split) else wanted
    try:
        needed.files()
    except InputMissingError as error:
        why = "is held out of data.train, which" if isinstance(wanted, Split) else "is wanted, and its file"
        raise InputMissingError(
            f"{saved.folder}: data.{name} {why} is not where it was; name a file with --input FILE\n{error}"
        ) from error
    if isinstance(wanted, Split):
        return _held_out(saved, wanted)
    if saved.config.task.learns_labels and withholds_labels(wanted, saved.labels.names):
        raise UsageError(
            f"{saved.folder}: the labels of data.{name} are withheld, so there are no scores; "
            f"`instar predict --split {name} --output FILE.jsonl` writes predictions and a submission file"
        )
    return _samples(saved, _cached(saved, wanted, saved.labels.names))


def _held_out(saved: Saved, split: Split) -> Samples:
    """The part of the training data that the run did not train on; DataError if the data are others by now."""
    train = saved.config.data.train
    cache = _cached(saved, train, known_labels(saved.config))
    if cache.fingerprint != read_json(saved.folder / STATE)["data_fingerprint"]:
        raise DataError(
            f"{train.files()[0]}: data.train has changed since {saved.folder} was trained, so what was held out of it "
            "cannot be counted; name a file with --input FILE"
        )
    return _samples(saved, cache).split(split.fraction, split.seed)[1]


def _cached(saved: Saved, source: Source, known: tuple[str, ...] | None) -> TokenCache:
    data = saved.config.data
    return build_cache(source, saved.tokenizer, data.cache_folder(), labels=known, processes=data.processes)


def _samples(saved: Saved, cache: TokenCache) -> Samples:
    return Samples(cache, saved.tokenizer, cut_of(saved.config, saved.network))
