"""LOMO and AdaLOMO (Lv et al. 2023): weights move while the gradients are made."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from instar.api.optimizers.recipe import Recipe, Request
from instar.optim.in_backward import claim

_MOMENTS = ("exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col")


class _Silent:
    """A model as the packages' constructors see it: they would hook every gradient before it is whole."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = model.parameters

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """None to hook."""
        yield from ()


class _Updating(torch.optim.Optimizer):
    """What both share: a plain backward pass updates, with the rate of the group, and `step()` ends the step."""

    updates_in_backward = True
    model: nn.Module
    grad_func: Any
    step_num: int

    @property
    def lr(self) -> float:
        """The rate of the step to come, which schedules set in the group."""
        return float(self.param_groups[0]["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        """The constructors set it before there are groups; afterwards the group alone holds it."""

    def _begin(self, model: nn.Module) -> None:
        self.model = model
        self.step_num = 1
        claim((parameter for parameter in model.parameters() if parameter.requires_grad), self.grad_func)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Count the step that the backward pass was."""
        del closure
        self.step_num += 1


@cache
def _updating(base: Any) -> type[Any]:
    """The package's LOMO without its own backward call."""

    class Lomo(_Updating, base):
        def __init__(self, model: nn.Module, **kwargs: Any) -> None:
            base.__init__(self, _Silent(model), **kwargs)
            self._begin(model)

    Lomo.__name__ = base.__name__
    return Lomo


@cache
def _updating_with_moments(base: Any) -> type[Any]:
    """The package's AdaLOMO on any device, with its moments in `state_dict`."""

    class AdaLomo(_Updating, base):
        def __init__(self, model: nn.Module, **kwargs: Any) -> None:
            base.__init__(self, _Silent(model), loss_scale=None, **kwargs)
            self._begin(model)
            for name, parameter in model.named_parameters():
                shape, device = parameter.shape, parameter.device
                if len(shape) <= 1:
                    self.exp_avg_sq[name] = torch.zeros(shape, dtype=torch.float32, device=device)
                else:
                    self.exp_avg_sq_row[name] = torch.zeros(shape[0], dtype=torch.float32, device=device)
                    self.exp_avg_sq_col[name] = torch.zeros(shape[1], dtype=torch.float32, device=device)

        def state_dict(self) -> dict[str, Any]:
            for name, parameter in self.model.named_parameters():
                moments = {kind: getattr(self, kind)[name] for kind in _MOMENTS if name in getattr(self, kind)}
                self.state[parameter] = {"step": self.step_num, **moments}
            try:
                return super().state_dict()
            finally:
                self.state.clear()

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            for name, parameter in self.model.named_parameters():
                state = self.state.pop(parameter, {})
                self.step_num = state.pop("step", self.step_num)
                for kind, moment in state.items():
                    getattr(self, kind)[name] = moment.float()

    AdaLomo.__name__ = base.__name__
    return AdaLomo


def _finish(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model = request.needed_model()
    request.refuse_several_passes()
    made = _updating_with_moments if request.name == "adalomo" else _updating
    return made(found), kwargs | {"model": model, "weight_decay": request.args.weight_decay}


def _recipe(name: str) -> Recipe:
    return Recipe(target=f"lomo_optim:{name}", install="pip install lomo-optim", finish=_finish)


RECIPES = {"lomo": _recipe("Lomo"), "adalomo": _recipe("AdaLomo")}
