"""Correlation of numbers. Ranks need all of them at once, so they are kept. Shape letter: D documents."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
    from torchmetrics.functional import pearson_corrcoef

    return _correlation(pairs, pearson_corrcoef)


def spearman(pairs: Pairs) -> float:
    """Correlation of ranks (equal values share their mean rank); NaN as for `pearson`."""
    from torchmetrics.functional import spearman_corrcoef

    return _correlation(pairs, spearman_corrcoef)


def _correlation(pairs: Pairs, function: Callable[[Tensor, Tensor], Tensor]) -> float:
    sides = (pairs.predictions_D, pairs.labels_D)
    if len(pairs) < 2 or not all(np.isfinite(values_D).all() and np.ptp(values_D) > 0 for values_D in sides):
        return math.nan
    # The largest value is made 1, for squares of huge or tiny numbers leave the range of a float.
    scaled = [torch.from_numpy(values_D / np.abs(values_D).max()) for values_D in sides]
    return min(1.0, max(-1.0, float(function(*scaled))))
