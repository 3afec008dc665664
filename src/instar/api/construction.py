"""How a Trainer is put together."""

from instar.api.base import TrainerParts


class Construction(TrainerParts):
    """How a Trainer is put together."""
