"""F1: harmonic mean of precision and recall."""

import math
from typing import Any

from instar.metric.confusion import Confusion


def f1(confusion: Confusion) -> float:
    """F1 of class 1 where there are two classes, else the macro mean; NaN where nothing was counted."""
    return _f1(confusion, average="binary", pos_label=1) if confusion.num_classes == 2 else f1_macro(confusion)


def f1_macro(confusion: Confusion) -> float:
    """Unweighted mean of every class's F1; a class that neither occurs nor is predicted is left out."""
    return _f1(confusion, average="macro")


def _f1(confusion: Confusion, **options: Any) -> float:
    if not confusion.count:
        return math.nan
    from sklearn.metrics import f1_score

    labels_P, predictions_P, counts_P = confusion.pairs()
    return float(f1_score(labels_P, predictions_P, sample_weight=counts_P, zero_division=0.0, **options))
