"""YAML with line numbers to typed values; every fault of a file in one error; JSON Schema."""

from instar.config.base import Config, Interval, RunBudget

__all__ = ["Config", "Interval", "RunBudget"]
