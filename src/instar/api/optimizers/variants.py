"""Variants of AdamW from packages of one optimizer each."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from instar.api.optimizers.options import flag, number
from instar.api.optimizers.recipe import Recipe, Request


def _with_decay(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return found, kwargs | {"weight_decay": request.args.weight_decay}


def _storable(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    del request
    return _grok_with_state(found), kwargs


@cache
def _grok_with_state(base: Any) -> type[Any]:
    """GrokAdamW keeps its moments in its groups, keyed by the parameters themselves, so that no file could hold them.

    This one hands them over, and takes them back, where every optimizer has its state.
    """

    class GrokAdamW(base):
        def step(self, closure: Callable[[], float] | None = None) -> float | None:
            with warnings.catch_warnings():
                # It opens a CUDA autocast around every parameter, with or without CUDA.
                warnings.filterwarnings("ignore", message=".*autocast.*|.*CUDA is not available.*")
                result: float | None = super().step(closure)
            return result

        def state_dict(self) -> dict[str, Any]:
            kept = [group.pop("state", {}) for group in self.param_groups]
            self.state.update({parameter: state for states in kept for parameter, state in states.items()})
            try:
                whole: dict[str, Any] = super().state_dict()
            finally:
                self.state.clear()
                for group, states in zip(self.param_groups, kept, strict=True):
                    group["state"] = states
            return whole

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            for group in self.param_groups:
                group["state"] = {p: self.state.pop(p) for p in group["params"] if p in self.state}

    GrokAdamW.__name__ = base.__name__
    return GrokAdamW


RECIPES = {
    "stable_adamw": Recipe(
        target="optimi:StableAdamW",
        install="pip install torch-optimi",
        betas=True,
        eps=True,
        fixed={"decouple_lr": False, "max_lr": None, "kahan_sum": None},
        options={"decouple_lr": flag, "max_lr": number, "kahan_sum": flag},
        finish=_with_decay,
    ),
    "grokadamw": Recipe(
        target="grokadamw:GrokAdamW",
        install="pip install grokadamw",
        betas=True,
        eps=True,
        fixed={
            "alpha_init": 0.98,
            "lamb": 2.0,
            "gamma": 0.1,
            "grokking_signal_decay_rate": 0.1,
            "gradient_clipping": 1.0,
        },
        options={
            "alpha_init": number,
            "lamb": number,
            "gamma": number,
            "grokking_signal_decay_rate": number,
            "gradient_clipping": number,
        },
        finish=_storable,
    ),
}
