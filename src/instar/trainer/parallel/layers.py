"""Which modules of a model are gathered one at a time."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn

from instar.core.errors import UsageError
from instar.trainer.parallel.config import Fsdp


def layers_of(module: nn.Module, config: Fsdp) -> list[nn.Module]:
    """Inner modules that are sharded by themselves, inner ones first; the rest goes with the whole module.

    By default the model's own repeated layers. A module that shares a parameter with the outside is left to the
    whole. UsageError for a class that the model does not have.
    """
    if config.layers is not None:
        chosen = _named(module, config.layers)
    elif config.min_parameters is not None:
        chosen = list(_large(module, config.min_parameters))
    else:
        chosen = _repeated(module)
    tied = _tied(module)
    return [inner for inner in chosen if not any(id(parameter) in tied for parameter in inner.parameters())]


def _named(module: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    classes = {type(inner).__name__ for inner in module.modules()}
    missing = sorted(set(names) - classes)
    if missing:
        raise UsageError(
            f"train.parallel.layers: the model has no {', '.join(missing)}; it has {', '.join(sorted(classes))}"
        )
    found = [inner for inner in module.modules() if type(inner).__name__ in names and inner is not module]
    return found[::-1]


def _large(module: nn.Module, least: int) -> Iterator[nn.Module]:
    """The smallest modules that have enough parameters outside of chosen ones."""
    counted: set[int] = set()
    for inner in [*module.modules()][:0:-1]:
        left = [parameter for parameter in inner.parameters() if id(parameter) not in counted]
        if sum(parameter.numel() for parameter in left) >= least and not isinstance(inner, nn.ModuleList):
            counted.update(map(id, left))
            yield inner


def _repeated(module: nn.Module) -> list[nn.Module]:
    """The layers that Transformers never splits, or else the members of the lists with the most parameters."""
    lists = [inner for inner in module.modules() if isinstance(inner, nn.ModuleList) and len(inner)]
    unsplit = _unsplit(module)
    named = [layer for one in lists for layer in one if type(layer).__name__ in unsplit]
    if named:
        return named
    outer = [one for one in lists if not any(one is not other and _holds(other, one) for other in lists)]
    return [layer for one in outer for layer in one if any(True for _ in layer.parameters())]


def _unsplit(module: nn.Module) -> set[str]:
    found: set[str] = set()
    for inner in module.modules():
        names: Any = getattr(inner, "_no_split_modules", None)
        found.update(names or ())
    return found


def _holds(outer: nn.Module, inner: nn.Module) -> bool:
    return any(module is inner for module in outer.modules())


def _tied(module: nn.Module) -> set[int]:
    """Parameters that stand in more than one module."""
    places = Counter(id(parameter) for inner in module.modules() for parameter in inner.parameters(recurse=False))
    return {number for number, count in places.items() if count > 1}
