"""Modules that run other code for a while: they stay the objects that they are, and their class is exchanged."""

import copy
from typing import Any, ClassVar

from torch import nn


class Specialized:
    """First base of a class that stands in for `plain`, a class of modules.

    Pickled objects are of the plain class, as they are outside of training; deep copies stay specialized.
    """

    plain: ClassVar[type[nn.Module]]

    def __reduce_ex__(self, protocol: Any) -> Any:
        made: Any = super().__reduce_ex__(protocol)
        return (object.__new__, (self.plain,), *made[2:])

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo[id(self)] = self.plain.__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied


class Changes:
    """What this package changed about the modules of a model within `with` blocks, to be undone later.

    Noted are classes, attributes, children and hooks, not the values of tensors. What somebody else changed meanwhile
    stays: only what still is as this package left it is put back.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before: list[tuple[nn.Module, type, dict[str, Any]]] = []
        self._noted: list[tuple[Any, str | None, Any, Any]] = []
        """(module or dict, name of the value or None for the class, value before, value after)."""

    def __enter__(self) -> "Changes":
        self._before = [(module, type(module), _values(module)) for module in self._model.modules()]
        return self

    def __exit__(self, *error: object) -> None:
        for module, kind, values in self._before:
            if type(module) is not kind:
                self._noted.append((module, None, kind, type(module)))
            self._note(vars(module), values)
        self._before = []

    def _note(self, holder: dict[str, Any], before: dict[str, Any]) -> None:
        for name in dict.fromkeys([*before, *holder]):
            if name in _TENSORS:
                continue
            old, new = before.get(name, _NOTHING), holder.get(name, _NOTHING)
            if isinstance(old, _Entries) and isinstance(new, dict):
                self._note(new, old)
            elif old is not new and not isinstance(old, _Entries):
                self._noted.append((holder, name, old, new))

    def undo(self) -> None:
        """Put everything back, the latest change first."""
        while self._noted:
            holder, name, before, after = self._noted.pop()
            if name is None:
                if type(holder) is after:
                    holder.__class__ = before
            elif holder.get(name, _NOTHING) is after:
                if before is _NOTHING:
                    del holder[name]
                else:
                    holder[name] = before


class _Entries(dict[str, Any]):
    """The entries that a dictionary of a module had."""


_NOTHING: Any = object()
_TENSORS = ("_parameters", "_buffers")


def _values(module: nn.Module) -> dict[str, Any]:
    """The module's attributes; of its dictionaries, such as those of children and hooks, the entries."""
    return {
        name: _Entries(value) if isinstance(value, dict) else value
        for name, value in vars(module).items()
        if name not in _TENSORS
    }
