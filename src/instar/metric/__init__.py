"""Scores from sums and counts: the same at every batch size and every split over ranks.

What comes in batches is added up as whole numbers (`Confusion`, `MultiLabelCounts`, `Likelihood`)
or kept whole (`Pairs`), and divided once, at the end. Nothing was counted: every mean is NaN.
"""

from instar.metric.accuracy import accuracy, masked_accuracy
from instar.metric.bits_per_character import bits_per_character
from instar.metric.confusion import Confusion
from instar.metric.correlation import Pairs, pearson, spearman
from instar.metric.f1 import f1, f1_macro
from instar.metric.likelihood import Likelihood
from instar.metric.matthews import matthews
from instar.metric.multi_label import MultiLabelCounts
from instar.metric.perplexity import perplexity
from instar.metric.scores import (
    classification_scores,
    confusion_scores,
    language_model_scores,
    multi_label_count_scores,
    multi_label_scores,
    pair_scores,
    regression_scores,
)

__all__ = [
    "Confusion",
    "Likelihood",
    "MultiLabelCounts",
    "Pairs",
    "accuracy",
    "bits_per_character",
    "classification_scores",
    "confusion_scores",
    "f1",
    "f1_macro",
    "language_model_scores",
    "masked_accuracy",
    "matthews",
    "multi_label_count_scores",
    "multi_label_scores",
    "pair_scores",
    "pearson",
    "perplexity",
    "regression_scores",
    "spearman",
]
