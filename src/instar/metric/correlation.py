"""Correlation of numbers. Ranks need all of them at once, so they are kept. Shape letter: D documents."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.metric.arrays import to_numpy


@dataclass(frozen=True, eq=False)
class Pairs:
    """Labels and predictions that were seen, in an order of their own: batches and ranks leave no trace."""

    labels_D: NDArray[np.float64]
    predictions_D: NDArray[np.float64]

    @classmethod
    def empty(cls) -> "Pairs":
        """Nothing seen yet."""
        return cls.of([], [])

    @classmethod
    def of(cls, labels_D: Any, predictions_D: Any) -> "Pairs":
        """Keep pairs; a column of predictions (D, 1) is taken as D. Raises ValueError for unequal lengths."""
        labels_D = to_numpy(labels_D).astype(np.float64).reshape(-1)
        predictions_D = to_numpy(predictions_D).astype(np.float64).reshape(-1)
        if labels_D.shape != predictions_D.shape:
            raise ValueError(f"one prediction a label wanted; got {len(labels_D)} labels, {len(predictions_D)} others")
        order_D = np.lexsort((predictions_D, labels_D))
        return cls(labels_D[order_D], predictions_D[order_D])

    def __add__(self, other: "Pairs") -> "Pairs":
        return Pairs.of(
            np.concatenate([self.labels_D, other.labels_D]), np.concatenate([self.predictions_D, other.predictions_D])
        )

    def __len__(self) -> int:
        return len(self.labels_D)


def pearson(pairs: Pairs) -> float:
    """Linear correlation, -1 to 1; NaN below two pairs, where one side is constant, or with a NaN among them."""
    return _correlation(pairs.labels_D, pairs.predictions_D)


def spearman(pairs: Pairs) -> float:
    """Correlation of ranks (equal values share their mean rank); NaN as for `pearson`."""
    if not (np.isfinite(pairs.labels_D).all() and np.isfinite(pairs.predictions_D).all()):
        return math.nan
    return _correlation(_ranks(pairs.labels_D), _ranks(pairs.predictions_D))


def _ranks(values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    _, group_D, sizes = np.unique(values_D, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(sizes) - (sizes - 1) / 2)[group_D]
    return ranks


def _correlation(first_D: NDArray[np.float64], second_D: NDArray[np.float64]) -> float:
    if len(first_D) < 2 or not (np.isfinite(first_D).all() and np.isfinite(second_D).all()):
        return math.nan
    if np.ptp(first_D) == 0 or np.ptp(second_D) == 0:
        return math.nan
    first_D, second_D = (_standardized(values_D) for values_D in (first_D, second_D))
    return float(np.clip(first_D @ second_D, -1.0, 1.0))


def _standardized(values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled_D = values_D / np.abs(values_D).max()
    centred_D = scaled_D - scaled_D.mean()
    unit_D: NDArray[np.float64] = centred_D / np.linalg.norm(centred_D)
    return unit_D
