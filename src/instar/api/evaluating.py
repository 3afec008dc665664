"""Evaluation and prediction."""

from instar.api.base import TrainerParts


class Evaluating(TrainerParts):
    """Evaluation and prediction."""
