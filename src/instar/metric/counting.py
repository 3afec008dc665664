"""Baselines that count: how well a token is predicted by the tokens next to it, and a label by the tokens of its text.

Shape letters: T tokens, M targets, D documents, F features, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_DENSE = 1 << 24
"""Numbers up to which a table has an entry for each."""
_STRENGTHS = tuple(4.0**power for power in range(-1, 9))
"""Weights of the shorter context that are tried, in counts."""
_CHOOSING = 50_000
"""Targets that choose the weights, at most."""


@dataclass(frozen=True)
class Vocabulary:
    """The ids of some training data, numbered from 0 on without gaps; any other id has the number `size`."""

    ids: Ints
    """Ascending."""

    @property
    def size(self) -> int:
        """How many ids there are."""
        return len(self.ids)

    @property
    def base(self) -> int:
        """One more than the largest number that `windows` gives."""
        return self.size + 2

    def numbers(self, ids_T: Ints) -> Ints:
        """The number of each id."""
        index_T = np.searchsorted(self.ids, ids_T).clip(max=self.size - 1)
        number_T: Ints = np.where(self.ids[index_T] == ids_T, index_T, self.size)
        return number_T

    def windows(self, ids_T: Ints, lengths_D: Ints, offsets: Sequence[int]) -> Ints:
        """(T,) each token and those at `offsets` from it as one number: its own lowest, then theirs in order.

        What lies beyond the ends of a document counts as one further token.
        """
        reach = max((abs(offset) for offset in offsets), default=0)
        document_T = np.repeat(np.arange(len(lengths_D)), lengths_D)
        index_T = np.arange(len(ids_T)) + reach * (document_T + 1)
        padded = np.full(len(ids_T) + reach * (len(lengths_D) + 1), self.size + 1, dtype=np.int64)
        padded[index_T] = self.numbers(ids_T)
        code_T: Ints = padded[index_T]
        for power, offset in enumerate(offsets, start=1):
            code_T = code_T + padded[index_T + offset] * self.base**power
        return code_T


class _Table:
    """How often each number occurs."""

    def __init__(self, codes: Ints, size: int, times: Floats | None = None) -> None:
        self.keys: Ints | None = None
        if size <= _DENSE:
            self.counts = np.bincount(codes, times, minlength=size)
        else:
            self.keys, index = np.unique(codes, return_inverse=True)
            self.counts = np.bincount(index, times)

    def entries(self) -> tuple[Ints, Floats]:
        """(number, how often) of those that occur."""
        found = np.flatnonzero(self.counts)
        return (found if self.keys is None else self.keys[found]), self.counts[found].astype(np.float64)

    def __getitem__(self, codes: Ints) -> Floats:
        if self.keys is None:
            return self.counts[codes].astype(np.float64)
        index = np.searchsorted(self.keys, codes).clip(max=len(self.keys) - 1)
        return np.where(self.keys[index] == codes, self.counts[index], 0.0)


class NeighborCounts:
    """Predicts a token from counts of it beside its neighbors, each order smoothed by the order below it.

    p_j = (count with j neighbors + w_j * p_(j-1)) / (count of the j neighbors + w_j), p_0 with one added to each
    count. The weights w_j are those that predict the last tenth of the training targets (50,000 at most) best from the
    others (Dirichlet smoothing; MacKay and Peto 1995).
    """

    def __init__(self, codes_M: Ints, *, base: int, num_tokens: int, order: int) -> None:
        """`codes_M` are `Vocabulary.windows` of the training targets; `num_tokens` could be predicted."""
        if len(codes_M) == 0:
            raise ValueError("there is no target to count")
        self.base, self.num_tokens, self.order = base, num_tokens, order
        num_counted = len(codes_M) - min(len(codes_M) // 10, _CHOOSING)
        self._count(codes_M[:num_counted])
        self._choose(codes_M[num_counted:])
        self._count(codes_M)

    def _count(self, codes_M: Ints) -> None:
        self._total = len(codes_M)
        sizes = [self.base ** (order + 1) for order in range(self.order + 1)]
        keys, times = _Table(codes_M, sizes[-1]).entries()  # the shorter contexts are sums of the longest
        self._both = [_Table(keys % size, size, times) for size in sizes]
        self._contexts = [_Table(keys % size // self.base, size // self.base, times) for size in sizes]

    def _choose(self, codes_M: Ints) -> None:
        self._strengths = []
        p_M = self._lowest(codes_M)
        for order in range(1, self.order + 1):
            both_M, context_M = self._counted(codes_M, order)
            tried = [(both_M + strength * p_M) / (context_M + strength) for strength in _STRENGTHS]
            best = int(np.argmin([-np.log(tried_M).sum() for tried_M in tried]))
            self._strengths.append(_STRENGTHS[best])
            p_M = tried[best]

    def _lowest(self, codes_M: Ints) -> Floats:
        p_M: Floats = (self._both[0][codes_M % self.base] + 1) / (self._total + self.num_tokens)
        return p_M

    def _counted(self, codes_M: Ints, order: int, masked: int = 0) -> tuple[Floats, Floats]:
        """How often each target stands beside its first `order` neighbors, and how often they occur.

        Neighbors whose bit is set in `masked` may be any.
        """
        size = self.base ** (order + 1)
        code_M = codes_M % size
        both, contexts = self._both[order], self._contexts[order]
        if masked:
            keys, times = both.entries()
            keys, code_M = self._without(keys, masked), self._without(code_M, masked)
            both, contexts = _Table(keys, size, times), _Table(keys // self.base, size // self.base, times)
        return both[code_M], contexts[code_M // self.base]

    def _without(self, codes_M: Ints, masked: int) -> Ints:
        """The numbers with the first id in place of the neighbors whose bit is set."""
        for neighbor in range(self.order):
            if masked >> neighbor & 1:
                power = self.base ** (neighbor + 1)
                codes_M = codes_M - codes_M // power % self.base * power
        return codes_M

    def nll(self, codes_M: Ints, masked_M: Ints | None = None) -> Iterator[Floats]:
        """(M,) negative log-likelihoods in nats: of no neighbor, of the first, ..., of all.

        `masked_M`: neighbors that the prediction of a target may not use, as the bits of a number, the first neighbor
        in the lowest; their counts are summed over all tokens that they might be.
        """
        p_M = self._lowest(codes_M)
        yield -np.log(p_M)
        masked_M = np.zeros(len(codes_M), dtype=np.int64) if masked_M is None else masked_M
        for order in range(1, self.order + 1):
            lower_M, p_M = p_M, p_M.copy()
            nearer_M = masked_M % (1 << order)
            for masked in np.unique(nearer_M[nearer_M < 1 << (order - 1)]).tolist():
                is_M = nearer_M == masked
                both, context = self._counted(codes_M[is_M], order, masked)
                weight = self._strengths[order - 1 - masked.bit_count()]
                p_M[is_M] = (both + weight * lower_M[is_M]) / (context + weight)
            yield -np.log(p_M)


class NaiveBayes:
    """Multinomial naive Bayes over features of documents, one added to each count (Manning et al. 2008, ch. 13)."""

    def __init__(self, features_F: Ints, classes_F: Ints, documents_C: Ints) -> None:
        """Each occurrence of a feature with the class of its document; `documents_C` counts documents."""
        num_classes = len(documents_C)
        self._known, index_F = np.unique(features_F, return_inverse=True)
        counts = np.bincount(index_F * num_classes + classes_F, minlength=len(self._known) * num_classes)
        added = counts.reshape(-1, num_classes) + 1.0
        self._log_p = np.log(added / added.sum(axis=0))
        self._log_prior_C = np.log((documents_C + 1.0) / (documents_C.sum() + num_classes))

    def logits(self, features_F: Ints, documents_F: Ints, num_documents: int) -> Floats:
        """(D, C) logarithms of p(class) p(features | class); features that training lacks count for nothing."""
        logits_DC = np.tile(self._log_prior_C, (num_documents, 1))
        if not len(self._known):
            return logits_DC
        index_F = np.searchsorted(self._known, features_F).clip(max=len(self._known) - 1)
        is_known_F = self._known[index_F] == features_F
        np.add.at(logits_DC, documents_F[is_known_F], self._log_p[index_F[is_known_F]])
        return logits_DC
