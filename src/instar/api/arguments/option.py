"""How a field of the arguments is written down: its default and its promise, on one line.

Metadata is what `transformers.HfArgumentParser` hands to `argparse`: a percent sign in a help text is doubled.
"""

import copy
from dataclasses import field
from typing import Any, TypeVar

T = TypeVar("T")


def option(default: T, promise: str, **metadata: Any) -> T:
    """A dataclass field; a list as default is copied for each instance, so that none is shared."""
    described = {"help": promise, **metadata}
    if isinstance(default, list):
        return field(default_factory=lambda: copy.copy(default), metadata=described)
    return field(default=default, metadata=described)
