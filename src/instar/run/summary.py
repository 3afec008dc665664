"""What a run's data are, in a few lines: tokens, labels, and what is not read as it stands in the files."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from instar.data.cache import TokenCache
from instar.data.samples import Samples
from instar.run.corpus import Corpus, Splits, must_be_known

_SHOWN_CLASSES = 20


def named_samples(splits: Splits) -> Iterator[tuple[str, Samples]]:
    """The splits that there are, by name."""
    for name, samples in (("train", splits.train), ("eval", splits.evaluation), ("test", splits.test)):
        if samples is not None:
            yield name, samples


def label_counts(samples: Samples) -> dict[str, float] | None:
    """Documents of each class, those without any included; of numbers least, mean and largest; None: no labels."""
    cache = samples.cache
    if cache.labels is None:
        return None
    document_S, _, _ = samples.segments.bounds(np.arange(len(samples.segments), dtype=np.int64))
    labels = np.asarray(cache.labels)[document_S]
    if cache.label_names is None:
        return {"least": float(labels.min()), "mean": float(labels.mean()), "largest": float(labels.max())}
    if cache.label_kind == "many":
        counts = labels.sum(axis=0, dtype=np.int64)
    else:
        counts = np.bincount(labels, minlength=len(cache.label_names))
    return dict(zip(cache.label_names, counts.tolist(), strict=True))


def summary(corpus: Corpus, splits: Splits, *, allow_unknown: bool) -> Iterator[str]:
    """A line for each thing that is worth knowing before training, warnings of unknown tokens among them."""
    for name, cache in _caches(corpus):
        yield f"data.{name}: {cache.token_count.described()}"
        warning = must_be_known(f"data.{name}", cache, corpus.tokenizer, is_allowed=allow_unknown)
        if warning is not None:
            yield warning
    for name, samples in named_samples(splits):
        counts = label_counts(samples)
        if counts is not None:
            yield f"data.{name}: {_labels(counts, samples.cache)}"
    yield from corpus.notices
    yield from _left_out(corpus, splits)


def _caches(corpus: Corpus) -> Iterator[tuple[str, TokenCache]]:
    for name, cache in (("train", corpus.train), ("eval", corpus.evaluation), ("test", corpus.test)):
        if isinstance(cache, TokenCache):
            yield name, cache


def _labels(counts: dict[str, Any], cache: TokenCache) -> str:
    if cache.label_names is None:
        return "labels are numbers, " + ", ".join(f"{name} {value:.6g}" for name, value in counts.items())
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:_SHOWN_CLASSES]]
    more = f", and {len(counts) - len(shown)} more" if len(counts) > len(shown) else ""
    return f"{len(counts)} classes, with documents of each: {', '.join(shown)}{more}"


def _left_out(corpus: Corpus, splits: Splits) -> Iterator[str]:
    """What the run does not read as it stands in the files, a line for each kind of it, with counts."""
    for name, samples in named_samples(splits):
        cut = samples.report
        if cut.get("truncated"):
            yield (
                f"data.{name}: {cut['truncated']:,} of {cut['segments']:,} documents are too long and cut off; "
                f"{cut['cut_tokens']:,} tokens are not read"
            )
        if cut.get("windowed"):
            yield (
                f"data.{name}: {cut['windowed']:,} of {cut['segments']:,} documents are too long for the model and "
                f"cut into windows ({cut['samples']:,} samples)"
            )
    for name, cache in _caches(corpus):
        if cache.report.get("empty_documents"):
            yield f"data.{name}: {cache.report['empty_documents']:,} empty documents are skipped"
        if cache.report.get("unlabelled_documents"):
            yield f"data.{name}: {cache.report['unlabelled_documents']:,} documents without a label are left out"
