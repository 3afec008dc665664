"""Counting is a baseline that can be trusted: proper probabilities, within documents, and what scikit-learn says."""

import numpy as np
import pytest

from instar.metric.counting import NaiveBayes, NeighborCounts, Vocabulary

BOTH = (-1, 1, -2, 2)


def test_a_window_holds_the_neighbors_and_ends_with_its_document() -> None:
    vocabulary = Vocabulary(np.array([5, 7, 9]))
    ids = np.array([5, 7, 9, 7, 5])
    codes = vocabulary.windows(ids, np.array([3, 2]), (-1, 1))
    outside, base = 4, vocabulary.base
    parts = [(code % base, code // base % base, code // base**2) for code in codes.tolist()]
    assert parts == [(0, outside, 1), (1, 0, 2), (2, 1, outside), (1, outside, 0), (0, 1, outside)]
    assert vocabulary.numbers(np.array([6, 9, 100])).tolist() == [3, 2, 3]


@pytest.mark.parametrize("dense", [1 << 24, 0])
def test_probabilities_of_all_tokens_add_up_to_one(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.metric.counting._DENSE", dense)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 4, 4000)
    ids[1:] = np.where(rng.random(3999) < 0.6, ids[:-1], ids[1:])
    vocabulary = Vocabulary(np.arange(4))
    codes = vocabulary.windows(ids, np.array([4000]), BOTH)
    counts = NeighborCounts(codes, base=vocabulary.base, num_tokens=4, order=len(BOTH))
    contexts = np.unique(codes // vocabulary.base)
    every = np.concatenate([contexts * vocabulary.base + token for token in range(4)])
    for nll in counts.nll(every):
        assert np.exp(-nll).reshape(4, -1).sum(axis=0) == pytest.approx(1)


@pytest.mark.parametrize("dense", [1 << 24, 0])
def test_hidden_neighbors_are_summed_over(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instar.metric.counting._DENSE", dense)
    ids = np.random.default_rng(0).integers(0, 4, 4000)
    ids[1::2] = ids[:-1:2]
    vocabulary, lengths = Vocabulary(np.arange(4)), np.array([4000])

    def counted(offsets: tuple[int, ...]) -> tuple[NeighborCounts, np.ndarray]:
        codes = vocabulary.windows(ids, lengths, offsets)
        return NeighborCounts(codes, base=vocabulary.base, num_tokens=4, order=len(offsets)), codes

    counts, codes = counted(BOTH)
    for masked in range(16):
        offsets = tuple(offset for number, offset in enumerate(BOTH) if not masked >> number & 1)
        others, without = counted(offsets)
        others._strengths = counts._strengths[: len(offsets)]
        every_second = np.arange(4000) % 2 * masked
        *_, found = counts.nll(codes, every_second)
        *_, full = counts.nll(codes)
        *_, expected = others.nll(without)
        assert found[1::2] == pytest.approx(expected[1::2])
        assert (found[::2] == full[::2]).all()


def test_more_neighbors_explain_what_follows_from_them_and_nothing_is_gained_from_noise() -> None:
    vocabulary, rng = Vocabulary(np.arange(4)), np.random.default_rng(1)

    def losses(train: np.ndarray, test: np.ndarray) -> list[float]:
        codes = [vocabulary.windows(ids, np.array([len(ids)]), BOTH) for ids in (train, test)]
        counts = NeighborCounts(codes[0], base=vocabulary.base, num_tokens=4, order=len(BOTH))
        return [float(nll.mean()) for nll in counts.nll(codes[1])]

    cycle = losses(np.arange(4000) % 4, np.arange(400) % 4)
    assert cycle[0] == pytest.approx(np.log(4), abs=1e-3)
    assert cycle[-1] < 0.01
    noise = losses(rng.integers(0, 4, 20_000), rng.integers(0, 4, 20_000))
    assert noise == pytest.approx([np.log(4)] * 5, abs=4e-3)


def test_naive_bayes_is_that_of_scikit_learn() -> None:
    from sklearn.naive_bayes import MultinomialNB

    rng = np.random.default_rng(2)
    counts, labels = rng.integers(0, 4, (50, 20)), rng.integers(0, 3, 50)
    documents, features = np.nonzero(counts)
    times = counts[documents, features]
    documents, features = documents.repeat(times), features.repeat(times)
    bayes = NaiveBayes(features + 100, labels[documents], np.bincount(labels, minlength=3))
    reference = MultinomialNB().fit(counts, labels)
    logits = bayes.logits(features + 100, documents, 50)
    apart = logits - bayes.logits(features[:0], documents[:0], 50) - (counts @ reference.feature_log_prob_.T)
    assert np.abs(apart).max() < 1e-9
    unknown = bayes.logits(np.array([5]), np.array([0]), 1)
    assert unknown == pytest.approx(bayes.logits(features[:0], documents[:0], 1))
