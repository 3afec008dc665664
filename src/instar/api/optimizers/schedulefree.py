"""Schedule-free optimizers (Defazio et al. 2024): the average of the iterates stands in for a schedule.

They have two sets of weights: `optimizer.train()` puts those to train with into the model, `optimizer.eval()` those to
judge and to save. `instar.optim.modes` switches.
"""

import math
from typing import Any

from instar.api.optimizers.options import flag, number
from instar.api.optimizers.recipe import Recipe, Request

_INSTALL = "pip install 'schedulefree>=1.4'"
_SHAPE = {"weight_lr_power": number, "r": number}
_DEFAULTS = {"weight_lr_power": 2.0, "r": 0.0}


def _with_decay(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return found, kwargs | {"weight_decay": request.args.weight_decay}


def _with_warmup(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The warm-up is the optimizer's own, in steps."""
    steps = float(getattr(request.args, "warmup_steps", 0) or 0)
    if 0 < steps < 1:
        total = request.num_training_steps or getattr(request.args, "max_steps", None) or 0
        if total <= 0:
            raise ValueError(
                f"optim={request.name!r} warms up by itself and needs warmup_steps as a number of steps; got the share "
                f"{steps:g} of a training whose length is not known here"
            )
        steps = math.ceil(total * steps)
    return found, kwargs | {"weight_decay": request.args.weight_decay, "warmup_steps": int(steps)}


RECIPES = {
    "schedule_free_adamw": Recipe(
        target="schedulefree:AdamWScheduleFree",
        install=_INSTALL,
        fixed=_DEFAULTS,
        betas=True,
        eps=True,
        options=_SHAPE,
        finish=_with_warmup,
    ),
    "schedule_free_radam": Recipe(
        target="schedulefree:RAdamScheduleFree",
        install=_INSTALL,
        fixed=_DEFAULTS,
        betas=True,
        eps=True,
        options=_SHAPE | {"silent_sgd_phase": flag},
        finish=_with_decay,
    ),
    "schedule_free_sgd": Recipe(
        target="schedulefree:SGDScheduleFree",
        install=_INSTALL,
        fixed=_DEFAULTS,
        options=_SHAPE | {"momentum": number},
        finish=_with_warmup,
    ),
}
