"""The modules and parameters of a model, which a step looks at several times."""

from typing import Any

from torch import nn
from torch.nn.modules import module as registration


class Structure:
    """Lists a model's modules and parameters; again after a module or a parameter was registered somewhere.

    To walk over a model costs as much as all else that a step does in Python, so that it is not done in each step.
    """

    def __init__(self, model: nn.Module, *, is_fixed: bool = False) -> None:
        """`is_fixed` for a model whose parameters are exchanged while it runs: those of now are meant."""
        self.model = model
        self.modules: list[nn.Module] = []
        self.parameters: list[nn.Parameter] = []
        self._is_stale = False
        self._handles: list[Any] = []
        if not is_fixed:
            self._handles = [
                registration.register_module_module_registration_hook(self._registered),
                registration.register_module_parameter_registration_hook(self._registered),
            ]
        self._list()

    def _registered(self, *_: Any) -> None:
        self._is_stale = True

    def _list(self) -> None:
        self.modules, self.parameters, self._is_stale = list(self.model.modules()), list(self.model.parameters()), False

    def refresh(self) -> None:
        """Look again where something was registered since."""
        if self._is_stale:
            self._list()

    def train(self) -> None:
        """Put every module into training mode, as `model.train()` does, unless all are."""
        if self._is_stale:
            self._list()
        if not all([module.training for module in self.modules]):  # noqa: C419  no call for each module
            self.model.train()

    def close(self) -> None:
        """Notice nothing any more."""
        for handle in self._handles:
            handle.remove()
