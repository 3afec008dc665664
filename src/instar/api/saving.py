"""Checkpoints and resuming."""

from instar.api.base import TrainerParts


class Saving(TrainerParts):
    """Checkpoints and resuming."""
