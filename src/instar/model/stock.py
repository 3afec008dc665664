"""Is a Transformers model exactly what its class and its configuration make, or has somebody changed it?

The model is compared, module by module, with one that its class builds from its configuration without weights.
"""

import copy
import sys
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

_PACKAGES = ("transformers", "torch")
_PLAIN = (bool, int, float, str, tuple, type(None))
_MAY_DIFFER = frozenset({"training", "p", "name_or_path", "vocab_size", "_attn_implementation"})
"""Values of a module that may be set after it was built, since packed rows use the module's own; and dropout rates."""


def deviation(model: nn.Module) -> str | None:
    """The first way in which a model differs from a stock Transformers model of its configuration, in words; or None.

    Looks at the class of every module and where its functions come from, at instance attributes that replace
    functions or values, at hooks, and at the type and shape of parameters. Dropout rates may differ.
    """
    kind = type(model)
    if getattr(sys.modules.get(kind.__module__), kind.__name__, None) is not kind:
        return f"{kind.__name__} is not a class of Transformers"
    try:
        stock = _without_weights(model)
    except Exception as error:  # noqa: BLE001  whatever a changed configuration makes of the constructor
        return f"its configuration does not build it again ({type(error).__name__}: {error})"
    mine, theirs = dict(model.named_modules()), dict(stock.named_modules())
    for name, module in mine.items():
        if name not in theirs:
            return f"the module {name} was added"
        if found := _changed(module, theirs[name]):
            return f"{name or 'the model'}: {found}"
    missing = theirs.keys() - mine.keys()
    return f"the module {min(missing)} is missing" if missing else None


def patched(module: nn.Module) -> str | None:
    """What a module does beside its class's own code: hooks, or a forward of its own; None for nothing."""
    attributes = vars(module)
    if (
        attributes["_forward_hooks"]
        or attributes["_forward_pre_hooks"]
        or attributes["_backward_hooks"]
        or attributes["_backward_pre_hooks"]
    ):
        return "it has hooks"
    return "its forward was replaced" if "forward" in attributes else None


def global_hooks() -> str | None:
    """Hooks that torch calls for every module of the process."""
    registered = nn.modules.module
    names = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
    return "hooks for all modules are registered" if any(getattr(registered, name, None) for name in names) else None


class Watch:
    """Notices a change of a model's modules after it was looked at: cheap enough to ask in every step."""

    def __init__(self, model: nn.Module) -> None:
        self._seen = [
            (name, module, type(module), tuple(module._modules.values())) for name, module in model.named_modules()
        ]

    def change(self) -> str | None:
        """The first module that was replaced, hooked or patched since; None for none."""
        for name, module, kind, children in self._seen:
            if type(module) is not kind or (children and tuple(module._modules.values()) != children):
                return f"{name or 'the model'}: its class or a module in it was replaced"
            if found := patched(module):
                return f"{name or 'the model'}: {found}"
        return global_hooks()


def _without_weights(model: Any) -> nn.Module:
    from transformers.initialization import no_init_weights

    with torch.device("meta"), no_init_weights():
        stock: nn.Module = type(model)(copy.deepcopy(model.config))
    return stock


def _changed(module: nn.Module, stock: nn.Module) -> str | None:
    kind = type(module)
    if kind is not type(stock):
        return f"it is a {kind.__module__}.{kind.__qualname__}, and a {type(stock).__qualname__} in the stock model"
    return (
        patched(module)
        or _replaced_function(kind)
        or _changed_attributes(vars(module), vars(stock))
        or _changed_parameters(module._parameters, stock._parameters)
    )


def is_library_function(function: Any) -> bool:
    """True for a function whose code stands in a file of torch or Transformers."""
    return isinstance(function, types.FunctionType) and _is_of_the_packages(function.__code__.co_filename)


@cache
def _roots() -> tuple[Path, ...]:
    return tuple(Path(str(sys.modules[name].__file__)).parent for name in _PACKAGES)


def _replaced_function(kind: type) -> str | None:
    """A function of a class, or of what it inherits from, that was not written in torch or Transformers.

    Not remembered: classes may be patched at any time.
    """
    for cls in kind.__mro__:
        if not issubclass(cls, nn.Module):
            continue
        if cls.__module__.partition(".")[0] not in _PACKAGES:
            return f"{cls.__qualname__} is a class of {cls.__module__}"
        for name, value in vars(cls).items():
            function = _function_of(value)
            if function is not None and not is_library_function(function):
                return f"{cls.__qualname__}.{name} was replaced"
        forward = None if cls is nn.Module else vars(cls).get("forward")
        if isinstance(forward, types.FunctionType) and not forward.__qualname__.endswith(f"{cls.__name__}.forward"):
            return f"{cls.__qualname__}.forward was replaced"
    return None


@cache
def _is_of_the_packages(filename: str) -> bool:
    """Whether a file is part of torch or Transformers; generated functions ("<string>") are."""
    return filename.startswith("<") or any(Path(filename).is_relative_to(root) for root in _roots())


def _function_of(value: Any) -> types.FunctionType | None:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    return value if isinstance(value, types.FunctionType) else None


def _changed_attributes(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    for name, value in mine.items():
        if isinstance(value, nn.Module) or name in _MAY_DIFFER or "dropout" in name:
            continue
        if callable(value) and not _is_same_function(value, theirs.get(name)):
            return f"{name} was set on it"
        if name in theirs and isinstance(value, _PLAIN) and value != theirs[name]:
            return f"{name} is {value!r}, and {theirs[name]!r} by the configuration"
    return None


def _is_same_function(mine: Any, theirs: Any) -> bool:
    one, other = getattr(mine, "__func__", mine), getattr(theirs, "__func__", theirs)
    return one is other or (type(one) is type(other) and not isinstance(one, types.FunctionType | type))


def _changed_parameters(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    for name in [*mine, *theirs]:
        one, other = mine.get(name), theirs.get(name)
        if one is None and other is None:
            continue
        if one is None or other is None:
            return f"the parameter {name} {'is missing' if one is None else 'was added'}"
        if type(one) is not nn.Parameter:
            return f"the parameter {name} is a {type(one).__qualname__}"
        if one.shape != other.shape:
            return (
                f"the parameter {name} has the shape {tuple(one.shape)}, and {tuple(other.shape)} by the configuration"
            )
    return None
