"""Which processes of a launcher (`torchrun`, or another that sets RANK and WORLD_SIZE) carry out a command."""

import os
from collections.abc import Sequence

from instar.core.errors import UsageError

_DIVIDED = ("train", "evaluate", "predict", "probe")


class CommandLineError(UsageError):
    """A command line that every process finds wrong, before they have met; the main one reports it."""


def is_launched() -> bool:
    """Whether this process is one of several."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_main() -> bool:
    """True on the one process that prints."""
    return not is_launched() or os.environ.get("RANK", "0") == "0"


def takes_part(arguments: Sequence[str]) -> bool:
    """False where this process has nothing to do: what cannot be divided is done by the main process, as if alone."""
    if not is_launched() or _is_divided(arguments):
        return True
    if not is_main():
        return False
    for name in ("RANK", "WORLD_SIZE"):
        os.environ.pop(name, None)
    return True


def _is_divided(arguments: Sequence[str]) -> bool:
    if {"-h", "--help"} & set(arguments):
        return False
    verb = arguments[0] if arguments else ""
    has_file = any(word.split("=")[0] == "--input" for word in arguments)
    return verb in _DIVIDED or (verb == "generate" and has_file)
