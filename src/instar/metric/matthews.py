"""Matthews correlation of labels and predictions."""

import math

from instar.metric.confusion import Confusion


def matthews(confusion: Confusion) -> float:
    """-1 to 1, any number of classes; 0 where one side has one class only; NaN where nothing was counted."""
    if not confusion.count:
        return math.nan
    from sklearn.metrics import matthews_corrcoef

    labels_P, predictions_P, counts_P = confusion.pairs()
    if len(set(labels_P.tolist()) | set(predictions_P.tolist())) < 2:
        return 0.0
    return float(matthews_corrcoef(labels_P, predictions_P, sample_weight=counts_P))
