"""Optimizers over decay groups."""
