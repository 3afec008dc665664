"""Counts of (label, prediction) pairs. Shape letters: D documents, C classes, P pairs that occur."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.metric.arrays import to_integers


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was taken for each; sums over batches and ranks are exact."""

    counts_CC: NDArray[np.int64]
    """Row: the label; column: the prediction."""

    def __post_init__(self) -> None:
        shape = self.counts_CC.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(f"confusion counts: a square of classes wanted; got the shape {shape}")

    @classmethod
    def empty(cls, num_classes: int) -> "Confusion":
        """Nothing counted yet."""
        return cls(np.zeros((num_classes, num_classes), dtype=np.int64))

    @classmethod
    def of(cls, labels_D: Any, predictions_D: Any, num_classes: int) -> "Confusion":
        """Count pairs; raises ValueError for a class outside 0..num_classes-1 or unequal lengths."""
        labels_D, predictions_D = to_integers(labels_D, "labels"), to_integers(predictions_D, "predictions")
        if labels_D.shape != predictions_D.shape or labels_D.ndim != 1:
            raise ValueError(f"one prediction a label wanted; got shapes {labels_D.shape} and {predictions_D.shape}")
        for name, values_D in (("labels", labels_D), ("predictions", predictions_D)):
            outside_D = values_D[(values_D < 0) | (values_D >= num_classes)]
            if len(outside_D):
                raise ValueError(f"{name}: classes 0 to {num_classes - 1} wanted; got {int(outside_D[0])}")
        flat = np.bincount(labels_D * num_classes + predictions_D, minlength=num_classes**2)
        return cls(flat.reshape(num_classes, num_classes).astype(np.int64))

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.counts_CC + other.counts_CC)

    @property
    def num_classes(self) -> int:
        """Classes that exist, whether they occur or not."""
        return int(self.counts_CC.shape[0])

    @property
    def count(self) -> int:
        """Pairs counted."""
        return int(self.counts_CC.sum())

    @property
    def num_correct(self) -> int:
        """Pairs whose prediction is the label."""
        return int(np.trace(self.counts_CC))

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(labels_P, predictions_P, how often_P) of the pairs that occur."""
        labels_P, predictions_P = np.nonzero(self.counts_CC)
        return labels_P, predictions_P, self.counts_CC[labels_P, predictions_P]
