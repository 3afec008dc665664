"""Logs and metrics."""

from instar.api.base import TrainerParts


class Reporting(TrainerParts):
    """Logs and metrics."""
