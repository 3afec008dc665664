"""Optimizers over decay groups; one file each."""

from instar.optim.adamw import AdamW

Optimizer = AdamW

__all__ = ["AdamW", "Optimizer"]
