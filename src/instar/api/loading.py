"""Data loaders, samplers and columns."""

from instar.api.base import TrainerParts


class Loading(TrainerParts):
    """Data loaders, samplers and columns."""
