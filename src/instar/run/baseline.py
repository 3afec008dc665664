"""What counting predicts of a run's held-out data: the scores that a network has to beat.

Shape letters: T tokens, M targets, S targets that show a token, D documents, F features, C classes.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar import metric
from instar.core.errors import InstarError
from instar.core.files.checksum import with_checksum, without_checksum
from instar.core.files.disk import disk_errors
from instar.core.files.json_files import read_json, write_json
from instar.data import Batch
from instar.data.samples import Samples
from instar.masking.draws import maskable_index
from instar.metric.counting import NaiveBayes, NeighborCounts, Vocabulary
from instar.run.config import RunConfig
from instar.task import StepContext, TaskLike

Ints = NDArray[np.int64]
Row = dict[str, Any]

_VERSION = 2
_TRAIN_TOKENS, _HELD_OUT_TOKENS = 5_000_000, 500_000
_BATCH_TOKENS = 1 << 18
_FEW = 32
"""Different tokens that letters or bases have at most: longer contexts are counted."""
_REACH, _KMER = 3, 6


def baseline(config: RunConfig, task: TaskLike, train: Samples, held_out: Samples) -> list[Row]:
    """Scores of counting on held-out samples, fitted on the training part; each row has a `name`.

    The targets are those of the evaluation, and counting sees what the network sees: for a masked language model the
    same masked tokens, with the neighbors that are not masked; `unmasked_loss` is the same with all neighbors shown.
    A language model's rows are the unigram, then counts beside the nearest tokens: three on either
    side (six on the left for a causal one) where the data have at most 32 different tokens, else one. A classifier's
    are the commonest class, then multinomial naive Bayes over the tokens, or over 6-mers where there are at most 32.
    Numbers and sets of labels have one row: the mean of the training labels. At most 5,000,000 tokens are counted and
    500,000 held-out ones scored, of more samples at equal distances. The rows are kept beside the token caches.
    """
    path = config.data.cache_folder() / f"baseline-{_key(config, train, held_out)}.json"
    if path.is_file():
        with suppress(InstarError, OSError, KeyError, TypeError, ValueError):
            return list(without_checksum(read_json(path))["rows"])
    rows = (
        _language_rows(config, task, train, held_out)
        if task.answer.context is not None
        else _label_rows(train, held_out)
    )
    with disk_errors(path):
        write_json(path, with_checksum({"rows": rows}))
    return rows


def best_of(rows: list[Row]) -> dict[str, float]:
    """The best row's score, to stand beside those of the network: baseline_accuracy of classes, else baseline_loss."""
    accuracies = [row["accuracy"] for row in rows if "accuracy" in row]
    if accuracies:
        return {"baseline_accuracy": max(accuracies)}
    return {"baseline_loss": min(row["loss"] for row in rows)} if rows else {}


def described(rows: list[Row]) -> str:
    """The rows in one line."""
    parts = []
    for row in rows:
        scores = (f"{name} {row[name]:.4f}" for name in ("loss", "accuracy") if name in row)
        unmasked = f" ({row['unmasked_loss']:.4f} if no neighbor were masked)" if "unmasked_loss" in row else ""
        parts.append(f"{row['name']}: {', '.join(scores)}{unmasked}")
    return "; ".join(parts)


def _key(config: RunConfig, train: Samples, held_out: Samples) -> str:
    """Names all that the rows depend on."""
    value = [_VERSION, config.seed, config.task.model_dump(mode="json"), _named(train), _named(held_out)]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:24]


def _named(samples: Samples) -> list[Any]:
    """The cache, the cut, and where segments lie, which says how the documents were split."""
    index = np.unique(np.linspace(0, len(samples.segments) - 1, 64).astype(np.int64))
    bounds = [part.tolist() for part in samples.segments.bounds(index)]
    return [samples.cache.fingerprint, asdict(samples.cut), len(samples), bounds]


def _batches(samples: Samples, most: int) -> Iterator[Batch]:
    """Samples of at most about `most` tokens, at equal distances."""
    probed = np.unique(np.linspace(0, len(samples) - 1, 256).astype(np.int64))
    tokens = max(1.0, float(samples.lengths(probed).mean()))
    distance = max(1, math.ceil(len(samples) * tokens / most))
    size = max(1, int(_BATCH_TOKENS / tokens))
    for first in range(0, len(samples), size * distance):
        index = np.arange(first, min(len(samples), first + size * distance), distance)
        yield samples.gather(index, np.zeros_like(index))


def _vocabulary(samples: Samples) -> Vocabulary:
    """The ids of the training samples, special ones among them."""
    counts = np.zeros(samples.tokenizer.vocab_size, dtype=np.int64)
    for batch in _batches(samples, _TRAIN_TOKENS):
        counts += np.bincount(batch.ids_T.numpy(), minlength=len(counts))
    return Vocabulary(np.flatnonzero(counts))


def _has_few(vocabulary: Vocabulary, samples: Samples) -> bool:
    return len(np.setdiff1d(vocabulary.ids, list(samples.tokenizer.special_ids))) <= _FEW


# ---- tokens ----


def _language_rows(config: RunConfig, task: TaskLike, train: Samples, held_out: Samples) -> list[Row]:
    is_masked = task.answer.context == "both"
    vocabulary = _vocabulary(train)
    if is_masked:  # what shows the mask token has a number that no training token has
        vocabulary = Vocabulary(np.setdiff1d(vocabulary.ids, [train.tokenizer.mask_id]))
    reach = _REACH if _has_few(vocabulary, train) else 1
    offsets = [offset for distance in range(1, reach + 1) for offset in (-distance, distance)]
    if not is_masked:
        offsets = [-distance for distance in range(1, 2 * reach + 1 if reach > 1 else 2)]
    context = StepContext(seed=config.seed, step=0, progress=1.0, evaluating=True)

    def windows(batch: Batch) -> Ints:
        return vocabulary.windows(batch.ids_T.numpy(), np.asarray(batch.lengths), offsets)

    def trained(batch: Batch) -> Ints:
        return windows(batch)[maskable_index(batch) if is_masked else _read(task.prepare(batch, context)) + 1]

    def scored(batch: Batch) -> tuple[Ints, Ints]:
        prepared = task.prepare(batch, context)
        targets_M = _read(prepared) if is_masked else _read(prepared) + 1  # a causal model predicts the token after
        return windows(batch)[targets_M], windows(prepared)[targets_M]

    codes_M = np.concatenate([trained(batch) for batch in _batches(train, _TRAIN_TOKENS)])
    true_M, shown_M = map(np.concatenate, zip(*map(scored, _batches(held_out, _HELD_OUT_TOKENS)), strict=True))
    if not len(codes_M) or not len(true_M):
        return []
    num_tokens = max(1, train.tokenizer.vocab_size - len(train.tokenizer.special_ids))
    counts = NeighborCounts(codes_M, base=vocabulary.base, num_tokens=num_tokens, order=len(offsets))
    losses = [float(nll_M.mean()) for nll_M in counts.nll(true_M)]
    unigram = {"name": "unigram", "loss": losses[0]}
    if not is_masked:
        return [unigram, {"name": "bigram" if reach == 1 else f"{len(offsets)} on the left", "loss": losses[-1]}]
    nll_M = _masked_nll(config, counts, vocabulary, true_M, shown_M)
    row = {"name": f"{reach} on either side", "loss": float(nll_M.mean()), "unmasked_loss": losses[-1]}
    return [unigram, row]


def _read(prepared: Batch) -> Ints:
    return np.zeros(0, dtype=np.int64) if prepared.read_M is None else prepared.read_M.numpy()


def _masked_nll(
    config: RunConfig, counts: NeighborCounts, vocabulary: Vocabulary, true_M: Ints, shown_M: Ints
) -> NDArray[np.float64]:
    """(M,) negative log-likelihoods of counting that sees what the network sees: the tokens of `shown_M`.

    A masked neighbor is summed over. A target that shows a token says something of itself: it is the right one or a
    random one, in the shares of the task (Bayes' rule).
    """
    base = counts.base
    token_M, seen_M = true_M % base, shown_M % base
    hidden_M = np.zeros(len(true_M), dtype=np.int64)
    for neighbor in range(counts.order):
        hidden_M |= (shown_M // base ** (neighbor + 1) % base == vocabulary.size).astype(np.int64) << neighbor

    def nll(token_M: Ints) -> NDArray[np.float64]:
        *_, last_M = counts.nll(shown_M - seen_M + token_M, hidden_M)
        return last_M

    nll_M = nll(token_M)
    shows_S = np.flatnonzero(seen_M != vocabulary.size)
    if len(shows_S):
        mask_share, random_share = config.task.masking_shares
        random = random_share / counts.num_tokens
        kept = max(0.0, 1 - mask_share - random_share)
        likelihood_S = kept * (token_M == seen_M)[shows_S] + random
        evidence_S = kept * np.exp(-nll(seen_M)[shows_S]) + random
        nll_M[shows_S] += np.log(evidence_S) - np.log(likelihood_S)
    return nll_M


# ---- labels ----


def _label_rows(train: Samples, held_out: Samples) -> list[Row]:
    labels_D, held_D = _labels(train, _TRAIN_TOKENS), _labels(held_out, _HELD_OUT_TOKENS)
    if not len(labels_D) or not len(held_D):
        return []
    names = train.label_names or ()
    if train.cache.label_kind == "number":
        mean_D = np.full(len(held_D), labels_D.mean())
        return [{"name": "mean", "loss": metric.regression_scores(held_D, mean_D)["loss"]}]
    if train.cache.label_kind == "many":
        share_C = (labels_D.sum(axis=0) + 1) / (len(labels_D) + 2)
        logits_DC = np.tile(np.log(share_C) - np.log1p(-share_C), (len(held_D), 1))
        return [{"name": "mean", "loss": metric.multi_label_scores(held_D, logits_DC, names)["loss"]}]
    commonest = int(np.bincount(labels_D.astype(np.int64)).argmax())
    return [{"name": "commonest class", "accuracy": float((held_D == commonest).mean())}, _bayes_row(train, held_out)]


def _labels(samples: Samples, most: int) -> NDArray[Any]:
    parts = [batch.labels_D.numpy() for batch in _batches(samples, most) if batch.labels_D is not None]
    return np.concatenate(parts) if parts else np.empty(0)


def _bayes_row(train: Samples, held_out: Samples) -> Row:
    vocabulary = _vocabulary(train)
    length = _KMER if _has_few(vocabulary, train) else 1
    num_classes = len(train.label_names or ())
    features, classes, documents_C = [], [], np.zeros(num_classes, dtype=np.int64)
    for batch in _batches(train, _TRAIN_TOKENS):
        features_F, document_F = _features(vocabulary, batch, length)
        features.append(features_F)
        classes.append(_classes(batch)[document_F])
        documents_C += np.bincount(_classes(batch), minlength=num_classes)
    bayes = NaiveBayes(np.concatenate(features), np.concatenate(classes), documents_C)
    right = count = 0
    for batch in _batches(held_out, _HELD_OUT_TOKENS):
        logits_DC = bayes.logits(*_features(vocabulary, batch, length), len(batch))
        right += int((logits_DC.argmax(axis=1) == _classes(batch)).sum())
        count += len(batch)
    name = f"naive Bayes, {length}-mers" if length > 1 else "naive Bayes, tokens"
    return {"name": name, "accuracy": right / count}


def _classes(batch: Batch) -> Ints:
    if batch.labels_D is None:
        raise ValueError("documents of a classifier have labels")
    return batch.labels_D.numpy()


def _features(vocabulary: Vocabulary, batch: Batch, length: int) -> tuple[Ints, Ints]:
    """Every run of `length` tokens that are not special, as a number, and the document of each."""
    ids_T, lengths_D = batch.ids_T.numpy(), np.asarray(batch.lengths)
    code_T = vocabulary.windows(ids_T, lengths_D, range(1, length))
    is_text_T = np.ones(len(ids_T) + length, dtype=np.bool_)
    is_text_T[: len(ids_T)] = True if batch.maskable_T is None else batch.maskable_T.numpy()
    is_text_T[len(ids_T) :] = False
    document_T = np.repeat(np.arange(len(lengths_D)), lengths_D)
    is_whole_T = np.ones(len(ids_T), dtype=np.bool_)
    for offset in range(length):
        is_whole_T &= is_text_T[offset : offset + len(ids_T)]
    return code_T[is_whole_T], document_T[is_whole_T]
