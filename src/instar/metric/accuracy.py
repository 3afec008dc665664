"""Share of right answers."""

import math

from instar.metric.confusion import Confusion


def accuracy(confusion: Confusion) -> float:
    """Share of documents whose prediction is the label, 0 to 1; NaN where there are none."""
    return masked_accuracy(confusion.num_correct, confusion.count)


def masked_accuracy(correct: int, count: int) -> float:
    """Share of target tokens that were guessed, 0 to 1; NaN where there are none."""
    return correct / count if count else math.nan
