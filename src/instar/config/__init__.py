"""YAML with line numbers to typed values; every fault of a file in one error; JSON Schema."""

from instar.config.base import Config, Interval, KeyFaults, PathText, RunBudget
from instar.config.dump import dump
from instar.config.load import Loaded, load
from instar.config.schema import schema

__all__ = ["Config", "Interval", "KeyFaults", "Loaded", "PathText", "RunBudget", "dump", "load", "schema"]
