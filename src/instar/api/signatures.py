"""What a function that a user wrote may be called with."""

import inspect
from collections.abc import Callable
from typing import Any


def takes_argument(function: Callable[..., Any], name: str) -> bool:
    """Whether `function` may be called with `name=...`."""
    parameters = inspect.signature(function).parameters
    return name in parameters or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def takes_positional(function: Callable[..., Any], count: int) -> bool:
    """Whether `function` may be called with `count` positional arguments."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in positional for kind in kinds) >= count
