"""`optim_target_modules`: which linear layers a low-rank optimizer projects."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


def is_target(wanted: str | Sequence[str], module_name: str) -> tuple[bool, bool]:
    """Whether a module is meant, and whether by a regular expression.

    A text is an expression for the whole name; in a list, an entry may also be a part of the name.
    """
    if isinstance(wanted, str):
        return re.fullmatch(wanted, module_name) is not None, wanted != module_name
    if any(part in module_name for part in wanted):
        return True, False
    matches = any(re.fullmatch(part, module_name) for part in wanted)
    return matches, matches


def target_names(model: nn.Module, wanted: Any, optim: str) -> set[str]:
    """Names of the weights of all linear layers that are meant; "all-linear" means every one.

    ValueError where nothing is given or nothing matches; TypeError for something that is neither text nor a list of it.
    """
    ways = "a list of parts of module names, a regular expression, or 'all-linear'"
    if wanted is None:
        raise ValueError(f"optim={optim!r} needs optim_target_modules: {ways}")
    if not (isinstance(wanted, str) or (isinstance(wanted, list | tuple) and all(isinstance(w, str) for w in wanted))):
        raise TypeError(f"optim_target_modules: wanted {ways}; got {wanted!r}")
    takes_all = isinstance(wanted, str) and wanted.replace("_", "-") == "all-linear"
    found, linear = set(), []
    for name, module in model.named_modules():
        matches, by_expression = (True, True) if takes_all else is_target(wanted, name)
        if isinstance(module, nn.Linear):
            linear.append(name)
            found |= {f"{name}.weight"} if matches else set()
        elif matches and not by_expression:
            logger.warning("optim_target_modules: %s is no linear layer, and %s projects only those", name, optim)
    if not found:
        some = ", ".join(linear[:5]) or "none"
        raise ValueError(
            f"optim_target_modules: wanted one that matches a linear layer ({some}, ...); got {wanted!r} for {optim!r}"
        )
    return found
