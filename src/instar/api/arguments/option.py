"""How a field of the arguments is written down: its default and its promise, on one line.

Metadata is what `transformers.HfArgumentParser` hands to `argparse`: a percent sign in a help text is doubled.
"""

import argparse
import copy
import warnings
from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")


def option(default: T, promise: str, **metadata: Any) -> T:
    """A dataclass field; a list as default is copied for each instance, so that none is shared."""
    described = {"help": promise, **metadata}
    if isinstance(default, list):
        return field(default_factory=lambda: copy.copy(default), metadata=described)
    return field(default=default, metadata=described)


class OldOption(argparse.Action):
    """Store what was given; an old spelling (`--no_cuda`) is said once to be old, and means the new one.

    A bare old flag (`--adafactor`) stands for the value in `const`, which the new option does not give by itself.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        current = self.option_strings[0]
        given = (option_string or current).replace("-", "_").removeprefix("__")
        if given != current.removeprefix("--"):
            warnings.warn(f"--{given} is an old spelling; write {current}", FutureWarning, stacklevel=2)
        is_bare = isinstance(values, Flag)
        if is_bare and given == current.removeprefix("--"):
            parser.error(f"argument {current}: expected one argument")
        setattr(namespace, self.dest, values.means if is_bare else values)


class Flag:
    """The value that a bare old flag stands for."""

    def __init__(self, means: str) -> None:
        self.means = means


def formerly(*names: str, flag: str | None = None) -> dict[str, Any]:
    """Metadata that lets a command line use old spellings; `flag` is what a bare one means."""
    metadata: dict[str, Any] = {"aliases": [f"--{name}" for name in names], "action": OldOption}
    return metadata | ({"nargs": "?", "const": Flag(flag)} if flag is not None else {})
