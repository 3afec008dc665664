"""Counts of documents that may have several labels. Shape letters: D documents, C classes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instar.metric.arrays import to_numpy


@dataclass(frozen=True, eq=False)
class MultiLabelCounts:
    """For each class how often it was (label, prediction); sums over batches and ranks are exact."""

    counts_C22: NDArray[np.int64]
    """[class, has the label, was predicted]."""
    num_exact: int = 0
    """Documents whose whole set of labels was right."""
    count: int = 0
    """Documents."""

    @classmethod
    def empty(cls, num_classes: int) -> "MultiLabelCounts":
        """Nothing counted yet."""
        return cls(np.zeros((num_classes, 2, 2), dtype=np.int64))

    @classmethod
    def of(cls, labels_DC: Any, predictions_DC: Any) -> "MultiLabelCounts":
        """Count two arrays of 0 and 1 of one shape; raises ValueError otherwise."""
        labels_DC, predictions_DC = to_numpy(labels_DC), to_numpy(predictions_DC)
        if labels_DC.shape != predictions_DC.shape or labels_DC.ndim != 2:
            raise ValueError(f"two (D, C) arrays wanted; got shapes {labels_DC.shape} and {predictions_DC.shape}")
        for name, values_DC in (("labels", labels_DC), ("predictions", predictions_DC)):
            if not np.isin(values_DC, (0, 1)).all():
                raise ValueError(f"{name}: 0 or 1 wanted; got {values_DC[~np.isin(values_DC, (0, 1))].flat[0]!r}")
        has_DC, said_DC = labels_DC.astype(bool), predictions_DC.astype(bool)
        cells = [[(has_DC == has) & (said_DC == said) for said in (False, True)] for has in (False, True)]
        counts_C22 = np.moveaxis(np.asarray(cells).sum(axis=2, dtype=np.int64), 2, 0)
        return cls(counts_C22, int((has_DC == said_DC).all(axis=1).sum()), len(labels_DC))

    def __add__(self, other: "MultiLabelCounts") -> "MultiLabelCounts":
        return MultiLabelCounts(
            self.counts_C22 + other.counts_C22, self.num_exact + other.num_exact, self.count + other.count
        )

    def f1_C(self) -> NDArray[np.float64]:
        """F1 of each class; 0 where the class neither occurs nor is predicted."""
        hits_C = self.counts_C22[:, 1, 1]
        wrong_C = self.counts_C22[:, 0, 1] + self.counts_C22[:, 1, 0]
        f1_C: NDArray[np.float64] = 2 * hits_C / np.maximum(2 * hits_C + wrong_C, 1)
        return f1_C

    def f1_micro(self) -> float:
        """F1 of all (document, class) decisions together; 0 where none is positive."""
        hits, wrong = int(self.counts_C22[:, 1, 1].sum()), int(self.counts_C22[:, (0, 1), (1, 0)].sum())
        return 2 * hits / max(2 * hits + wrong, 1)
