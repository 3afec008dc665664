"""Publishing to the Hub."""

from instar.api.base import TrainerParts


class Hub(TrainerParts):
    """Publishing to the Hub."""
