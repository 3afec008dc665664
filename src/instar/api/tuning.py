"""Search over hyperparameters."""

from instar.api.base import TrainerParts


class Tuning(TrainerParts):
    """Search over hyperparameters."""
