"""`Trainer`: the life cycle that users of Transformers know, on instar's one loop."""

import sys
from functools import cache
from typing import Any, ClassVar

from instar.api.construction import Construction
from instar.api.evaluating import Evaluating
from instar.api.hub import Hub
from instar.api.inherited import InheritedNames
from instar.api.loading import Loading
from instar.api.optimizing import Optimizing
from instar.api.reporting import Reporting
from instar.api.saving import Saving
from instar.api.training import Training
from instar.api.tuning import Tuning


class Trainer(Construction, Training, Optimizing, Loading, Evaluating, Saving, Reporting, Hub, Tuning, InheritedNames):
    """Trains, evaluates, saves and publishes a PyTorch model; takes the place of `transformers.Trainer`.

    Joined from mixins of one theme each. Subclass it and override what you need: every public method is called
    through `self`, with the arguments that its signature takes.

    Instances pass `isinstance(trainer, transformers.Trainer)`; the class is no subclass of it and has none of its code.
    """

    _stands_for: ClassVar[tuple[tuple[str, str], ...]] = (("transformers.trainer", "Trainer"),)
    """Modules and names of Transformers' classes that instances pass for."""

    @property
    def __class__(self) -> Any:
        """A subclass of `type(self)` and of Transformers' class, once somebody imported that; never instantiated."""
        for module, name in self._stands_for:
            theirs = getattr(sys.modules.get(module), name, None)
            if theirs is not None:
                return _as_one_of(type(self), theirs)  # type: ignore[arg-type]
        return type(self)

    @__class__.setter
    def __class__(self, kind: type) -> None:
        object.__dict__["__class__"].__set__(self, kind)

    def __reduce_ex__(self, protocol: Any) -> Any:
        made: Any = super().__reduce_ex__(protocol)
        return (object.__new__, (type(self),), *made[2:])  # pickle compares the class otherwise


@cache
def _as_one_of(ours: type, theirs: type) -> type:
    """What `__class__` says: the names and methods of `ours`, and an ancestor more."""
    names = {"__module__": ours.__module__, "__qualname__": ours.__qualname__, "__doc__": ours.__doc__}
    return type.__new__(type, ours.__name__, (ours, theirs), names)
