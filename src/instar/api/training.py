"""Training on the one loop."""

from instar.api.base import TrainerParts


class Training(TrainerParts):
    """Training on the one loop."""
