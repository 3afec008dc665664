"""The optimizer and the learning rate of a Trainer."""

from instar.api.base import TrainerParts


class Optimizing(TrainerParts):
    """The optimizer and the learning rate of a Trainer."""
