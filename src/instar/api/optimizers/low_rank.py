"""GaLore (Zhao et al. 2024) and APOLLO (Zhu et al. 2024): moments of gradients projected to a low rank."""

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from instar.api.optimizers.groups import decay_parameter_names
from instar.api.optimizers.layerwise import Layerwise
from instar.api.optimizers.options import Option, number, whole, word
from instar.api.optimizers.recipe import Recipe, Request
from instar.api.optimizers.targets import target_names

_SIDES = ("std", "reverse_std", "right", "left", "full")
_GALORE: Mapping[str, Option] = {
    "rank": whole,
    "update_proj_gap": whole,
    "scale": number,
    "proj_type": word(*_SIDES),
}
_APOLLO: Mapping[str, Option] = {
    **_GALORE,
    "proj": word("random", "svd"),
    "scale_type": word("channel", "tensor"),
}
_GALORE_DEFAULTS = {"rank": 128, "update_proj_gap": 200, "scale": 0.25, "proj_type": "std"}
_LEARNT = ("ortho_matrix", "seed", "svd_count")
_APOLLO_DEFAULTS = _GALORE_DEFAULTS | {"scale": 1.0, "proj": "random", "scale_type": "channel"}


def _finish(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Groups: those not projected, with decay and (where there is any) without, and those projected, with the rank."""
    model = request.needed_model()
    projection = {key: kwargs.pop(key) for key in _APOLLO_DEFAULTS if key in kwargs}
    targets = target_names(model, request.args.optim_target_modules, request.name)
    decays = set(decay_parameter_names(model))
    decay = request.args.weight_decay
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    free = [(name, parameter) for name, parameter in trained if name not in targets]
    kept = [parameter for name, parameter in free if decay == 0 or name in decays]
    bare = [parameter for name, parameter in free if decay != 0 and name not in decays]
    groups: list[dict[str, Any]] = [{"params": kept, "weight_decay": decay}]
    groups += [{"params": bare, "weight_decay": 0.0}] if bare else []
    groups += [
        {"params": [parameter for name, parameter in trained if name in targets], "weight_decay": decay, **projection}
    ]
    if found.__name__ == "AdamW8bit" and not torch.cuda.is_available():
        raise RuntimeError(
            f"optim={request.name!r}: galore-torch's 8-bit AdamW runs on a CUDA GPU only; galore_adamw runs"
        )
    if not request.name.endswith("_layerwise"):
        return _storable(found), kwargs | {"params": groups}
    request.refuse_several_passes()
    return _storable(Layerwise), kwargs | {"params": groups, "base": _storable(found)}


@cache
def _storable(base: Any) -> type[Any]:
    """A class whose `state_dict` holds plain values: the packages keep a projector object for each weight."""

    class Storable(base):
        def state_dict(self) -> dict[str, Any]:
            whole: dict[str, Any] = super().state_dict()
            return whole | {"state": {key: _plain(state) for key, state in whole["state"].items()}}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            for group in self.param_groups:
                for parameter in group["params"]:
                    state = self.state.get(parameter, {})
                    if isinstance(state.get("projector"), dict):
                        state["projector"] = _projector(self, group, state)

    Storable.__name__ = Storable.__qualname__ = base.__name__
    return Storable


def _plain(state: Any) -> Any:
    if not (isinstance(state, dict) and "projector" in state):
        return state
    # What the group says is left to the group: `load_state_dict` of torch takes text in a state apart.
    return state | {"projector": {key: value for key, value in vars(state["projector"]).items() if key in _LEARNT}}


def _projector(optimizer: Any, group: Mapping[str, Any], state: Mapping[str, Any]) -> Any:
    """The projector again, of the class that the optimizer would make for this group."""
    while isinstance(optimizer, Layerwise):
        optimizer = next(optimizer.parts())
    if hasattr(optimizer, "_initialize_projector"):
        projector = optimizer._initialize_projector(group, state)
    else:
        home = next(kind.__module__ for kind in type(optimizer).__mro__ if not kind.__module__.startswith("instar."))
        said = {key: group[key] for key in _GALORE}
        projector = sys.modules[home].GaLoreProjector(**said)
    vars(projector).update(state["projector"])
    return projector


def _galore(name: str, *, betas: bool = True, **fixed: Any) -> Recipe:
    return Recipe(
        target=f"galore_torch:{name}",
        install="pip install galore-torch bitsandbytes",
        betas=betas,
        eps=betas,
        fixed=_GALORE_DEFAULTS | fixed,
        options=_GALORE,
        finish=_finish,
        reads_targets=True,
    )


_ADAMW = _galore("GaLoreAdamW", no_deprecation_warning=True)
_ADAMW_8BIT = _galore("GaLoreAdamW8bit")
_ADAFACTOR = _galore("GaLoreAdafactor", betas=False, scale_parameter=False, relative_step=False)
_APOLLO_ADAMW = Recipe(
    target="apollo_torch:APOLLOAdamW",
    install="pip install apollo-torch bitsandbytes",
    betas=True,
    eps=True,
    fixed=_APOLLO_DEFAULTS,
    options=_APOLLO,
    finish=_finish,
    reads_targets=True,
)

RECIPES = {
    "galore_adamw": _ADAMW,
    "galore_adamw_8bit": _ADAMW_8BIT,
    "galore_adafactor": _ADAFACTOR,
    "galore_adamw_layerwise": _ADAMW,
    "galore_adamw_8bit_layerwise": _ADAMW_8BIT,
    "galore_adafactor_layerwise": _ADAFACTOR,
    "apollo_adamw": _APOLLO_ADAMW,
    "apollo_adamw_layerwise": _APOLLO_ADAMW,
}
