import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.metric import (
    Confusion,
    Likelihood,
    MultiLabelCounts,
    Pairs,
    bits_per_character,
    classification_scores,
    confusion_scores,
    f1,
    f1_macro,
    language_model_scores,
    matthews,
    multi_label_count_scores,
    multi_label_scores,
    pair_scores,
    pearson,
    perplexity,
    regression_scores,
    spearman,
)

NAMES = ("a", "b", "c")


def cut(size: int, seed: int) -> list[np.ndarray]:
    """Places 0..size-1 in random pieces and a random order, as batches on several ranks would have them."""
    rng = np.random.default_rng(seed)
    return np.split(rng.permutation(size), np.sort(rng.integers(0, size + 1, size=4)))


def same(first: dict, second: dict) -> bool:
    return repr(first) == repr(second)  # bit for bit, and NaN equals NaN


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(2, 5), st.integers(0, 10**6))
def test_classification_is_the_same_at_every_split(size: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels_D, said_D = rng.integers(0, classes, (2, size))
    names = [str(number) for number in range(classes)]
    whole = confusion_scores(Confusion.of(labels_D, said_D, classes), names)
    parts = [Confusion.of(labels_D[part], said_D[part], classes) for part in cut(size, seed)]
    assert same(whole, confusion_scores(sum(parts, Confusion.empty(classes)), names))
    assert sum(map(sum, whole["confusion"])) == size


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 10**6))
def test_pairs_multi_label_and_likelihood_are_the_same_at_every_split(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels_D, said_D = rng.integers(0, 9, size) / 3, rng.normal(size=size)
    has_DC, guess_DC = rng.integers(0, 2, (2, size, 3))
    nll_M = torch.from_numpy(rng.exponential(5, size)).float()
    parts = cut(size, seed)

    pairs = sum((Pairs.of(labels_D[part], said_D[part]) for part in parts), Pairs.empty())
    assert same(pair_scores(pairs), regression_scores(labels_D, said_D))

    counts = sum((MultiLabelCounts.of(has_DC[part], guess_DC[part]) for part in parts), MultiLabelCounts.empty(3))
    whole = multi_label_count_scores(MultiLabelCounts.of(has_DC, guess_DC), NAMES)
    assert same(multi_label_count_scores(counts, NAMES), whole)

    total = sum((Likelihood.of(nll_M[part], has_DC[part, 0], len(part)) for part in parts), Likelihood())
    assert total == Likelihood.of(nll_M, has_DC[:, 0], size)
    assert total == Likelihood(*np.asarray(total.numbers(), dtype=np.int64).tolist())
    assert total.nll_sum == pytest.approx(float(nll_M.double().sum()), rel=1e-6, abs=1e-6)


def test_a_mean_of_means_would_be_another_number() -> None:
    first, second = Confusion.of([1], [1], 2), Confusion.of([0, 1, 0], [1, 0, 0], 2)
    assert confusion_scores(first + second, ("no", "yes"))["accuracy"] == 2 / 4


def test_values_agree_with_other_libraries() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    labels_D, said_D = rng.integers(0, 3, (2, 200))
    confusion = Confusion.of(labels_D, said_D, 3)
    assert f1(confusion) == f1_macro(confusion)
    assert f1(confusion) == pytest.approx(sklearn_metrics.f1_score(labels_D, said_D, average="macro"))
    assert matthews(confusion) == pytest.approx(sklearn_metrics.matthews_corrcoef(labels_D, said_D))
    assert confusion.counts_CC.tolist() == sklearn_metrics.confusion_matrix(labels_D, said_D).tolist()
    two = Confusion.of(labels_D % 2, said_D % 2, 2)
    assert f1(two) == pytest.approx(sklearn_metrics.f1_score(labels_D % 2, said_D % 2))

    pairs = Pairs.of(labels_D, rng.normal(size=200) + labels_D)
    assert spearman(pairs) == pytest.approx(stats.spearmanr(pairs.labels_D, pairs.predictions_D).statistic)
    assert pearson(pairs) == pytest.approx(stats.pearsonr(pairs.labels_D, pairs.predictions_D).statistic)

    has_DC, logits_DC = rng.integers(0, 2, (50, 3)), rng.normal(size=(50, 3))
    scores = multi_label_scores(has_DC, logits_DC, NAMES)
    for average, name in (("macro", "f1"), ("micro", "f1_micro")):
        assert scores[name] == pytest.approx(sklearn_metrics.f1_score(has_DC, logits_DC > 0, average=average))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(logits_DC), torch.tensor(has_DC).double())
    assert scores["loss"] == pytest.approx(loss.item())


def test_logits_give_the_loss_of_torch() -> None:
    logits_DC = torch.randn(40, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 50
    labels_D = torch.arange(40) % 3
    scores = classification_scores(labels_D, logits_DC.requires_grad_(), NAMES)
    assert scores["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits_DC, labels_D).item())
    assert scores["accuracy"] == (logits_DC.argmax(1) == labels_D).double().mean().item()
    assert "loss" not in classification_scores(labels_D, logits_DC.argmax(1), NAMES)
    assert classification_scores(labels_D, logits_DC.bfloat16(), NAMES)["count"] == 40


def test_perplexity_and_bits() -> None:
    assert perplexity(math.log(50) * 7, 7) == pytest.approx(50)
    assert perplexity(1e9, 1) == math.inf
    assert math.isnan(perplexity(0.0, 0))
    assert bits_per_character(math.log(2) * 30, 10) == pytest.approx(3)
    scores = language_model_scores(2.0, 1, 4, characters=8)
    assert (scores["loss"], scores["masked_accuracy"]) == (0.5, 0.25)
    assert language_model_scores(2.0, 1, 4, masked=False)["accuracy"] == 0.25
    assert "bits_per_character" not in language_model_scores(2.0, 1, 4)


def test_nothing_counted_is_nan_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = [
            classification_scores([], [], ("a", "b")),
            classification_scores([], np.zeros((0, 2)), ("a", "b")),
            multi_label_scores(np.zeros((0, 2)), np.zeros((0, 2)), ("a", "b")),
            regression_scores([], []),
            language_model_scores(0.0, 0, 0, 0),
        ]
    for scores in empty:
        assert scores["count"] == 0
        assert all(math.isnan(value) for value in scores.values() if isinstance(value, float))


@pytest.mark.parametrize(("label", "said"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_one_class_only_is_a_number_without_a_warning(label: int, said: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = classification_scores([label] * 5, [said] * 5, ("a", "b"))
    assert (scores["accuracy"], scores["matthews"]) == (float(label == said), 0.0)
    assert scores["f1"] == float(label == said == 1)


def test_constant_and_broken_numbers_have_no_correlation() -> None:
    for predictions_D in ([1.0, 1.0, 1.0], [1.0, math.nan, 2.0], [1.0, math.inf, 2.0]):
        scores = regression_scores([1.0, 2.0, 3.0], predictions_D)
        assert math.isnan(scores["spearman"])
        assert math.isnan(scores["pearson"])
    assert regression_scores([1.0, 2.0, 3.0], np.array([[1e300], [2e300], [3e300]]))["pearson"] == pytest.approx(1)


def test_a_likelihood_that_is_no_number_shows() -> None:
    for value in (math.nan, math.inf, 3e38):
        total = Likelihood.of([1.0, value], [True, False]) + Likelihood.of([2.0], [True])
        assert (total.non_finite, total.count, total.correct) == (1, 3, 2)
        assert math.isnan(total.nll_sum)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: Confusion.of([0, 5], [0, 1], 3), "labels: classes 0 to 2 wanted; got 5"),
        (lambda: Confusion.of([0, 1], [0, -1], 3), "predictions: classes 0 to 2 wanted; got -1"),
        (lambda: Confusion.of([0.5], [0], 3), "whole numbers wanted"),
        (lambda: Confusion.of([0], [0, 1], 3), "one prediction a label wanted"),
        (lambda: Pairs.of([0.0], [0.0, 1.0]), "one prediction a label wanted"),
        (lambda: Likelihood.of([0.0], []), "one answer a token wanted"),
        (lambda: MultiLabelCounts.of([[2]], [[1]]), "0 or 1 wanted"),
        (lambda: classification_scores([0], [[0.0, 1.0]], NAMES), "logits of 3 classes wanted"),
        (lambda: confusion_scores(Confusion.empty(3), ("a",)), "3 label names wanted"),
    ],
)
def test_wrong_input_says_what_was_wanted(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()
