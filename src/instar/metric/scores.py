"""The scores of a task by name, ready for metrics.jsonl. Shape letters: D documents, C classes.

Every function returns plain numbers; a score of nothing is NaN, never an error.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.metric.accuracy import accuracy, masked_accuracy
from instar.metric.arrays import to_integers, to_numpy
from instar.metric.bits_per_character import bits_per_character
from instar.metric.confusion import Confusion
from instar.metric.correlation import Pairs, pearson, spearman
from instar.metric.f1 import f1, f1_macro
from instar.metric.matthews import matthews
from instar.metric.multi_label import MultiLabelCounts
from instar.metric.perplexity import perplexity


def classification_scores(labels_D: Any, outputs: Any, label_names: Sequence[str]) -> dict[str, Any]:
    """Scores of single-label answers: `outputs` are logits (D, C), which also give the loss, or predictions (D)."""
    array = to_numpy(outputs)
    num_classes = len(label_names)
    if array.ndim == 1:
        return confusion_scores(Confusion.of(labels_D, array, num_classes), label_names)
    if array.ndim != 2 or array.shape[1] != num_classes:
        raise ValueError(f"logits of {num_classes} classes wanted; got the shape {array.shape}")
    confusion = Confusion.of(labels_D, array.argmax(axis=1), num_classes)
    loss = _mean(_cross_entropy_D(to_integers(labels_D, "labels"), array.astype(np.float64)))
    return {"loss": loss, **confusion_scores(confusion, label_names)}


def confusion_scores(confusion: Confusion, label_names: Sequence[str]) -> dict[str, Any]:
    """accuracy, f1 (of class 1 of two, else macro), f1_macro, matthews, confusion, labels, count."""
    if len(label_names) != confusion.num_classes:
        raise ValueError(f"{confusion.num_classes} label names wanted; got {len(label_names)}")
    return {
        "accuracy": accuracy(confusion),
        "f1": f1(confusion),
        "f1_macro": f1_macro(confusion),
        "matthews": matthews(confusion),
        "confusion": confusion.counts_CC.tolist(),
        "labels": list(label_names),
        "count": confusion.count,
    }


def multi_label_scores(labels_DC: Any, logits_DC: Any, label_names: Sequence[str]) -> dict[str, Any]:
    """Scores of answers with several labels; a class is predicted where its logit is above 0 (chance above 1/2)."""
    logits, labels = to_numpy(logits_DC).astype(np.float64), to_numpy(labels_DC)
    counts = MultiLabelCounts.of(labels, logits > 0)
    loss_DC = np.logaddexp(0.0, logits) - labels * logits
    return {"loss": _mean(loss_DC.reshape(-1)), **multi_label_count_scores(counts, label_names)}


def multi_label_count_scores(counts: MultiLabelCounts, label_names: Sequence[str]) -> dict[str, Any]:
    """accuracy (whole set right), f1 (macro), f1_micro, labels, count."""
    if len(label_names) != len(counts.counts_C22):
        raise ValueError(f"{len(counts.counts_C22)} label names wanted; got {len(label_names)}")
    return {
        "accuracy": masked_accuracy(counts.num_exact, counts.count),
        "f1": _mean(counts.f1_C()) if counts.count else math.nan,
        "f1_micro": counts.f1_micro() if counts.count else math.nan,
        "labels": list(label_names),
        "count": counts.count,
    }


def regression_scores(labels_D: Any, predictions_D: Any) -> dict[str, Any]:
    """loss (mean squared error), mean_absolute_error, pearson, spearman, count."""
    return pair_scores(Pairs.of(labels_D, predictions_D))


def pair_scores(pairs: Pairs) -> dict[str, Any]:
    """The scores of `regression_scores` from pairs that batches or ranks added up."""
    with np.errstate(over="ignore", invalid="ignore"):
        error_D = pairs.predictions_D - pairs.labels_D
        square_D = error_D**2
    return {
        "loss": _mean(square_D),
        "mean_absolute_error": _mean(np.abs(error_D)),
        "pearson": pearson(pairs),
        "spearman": spearman(pairs),
        "count": len(pairs),
    }


def language_model_scores(
    nll_sum: float, correct: int, count: int, characters: int | None = None, *, masked: bool = True
) -> dict[str, Any]:
    """loss (nats a token), perplexity, masked_accuracy (`accuracy` where `masked` is False), count.

    With `characters`, also bits_per_character.
    """
    scores: dict[str, Any] = {
        "loss": nll_sum / count if count else math.nan,
        "perplexity": perplexity(nll_sum, count),
        "masked_accuracy" if masked else "accuracy": masked_accuracy(correct, count),
        "count": count,
    }
    if characters is not None:
        scores["bits_per_character"] = bits_per_character(nll_sum, characters)
    return scores


def _cross_entropy_D(labels_D: NDArray[np.int64], logits_DC: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(labels_D) == 0:
        return np.zeros(0)
    highest_D = logits_DC.max(axis=1)
    total_D = highest_D + np.log(np.exp(logits_DC - highest_D[:, None]).sum(axis=1))
    loss_D: NDArray[np.float64] = total_D - logits_DC[np.arange(len(labels_D)), labels_D]
    return loss_D


def _mean(values: NDArray[np.float64]) -> float:
    """Exactly rounded, so the order of the values leaves no trace."""
    if not len(values):
        return math.nan
    return math.fsum(values.tolist()) / len(values) if np.isfinite(values).all() else math.nan
