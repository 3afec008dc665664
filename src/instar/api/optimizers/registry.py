"""Every name of `optim`."""

import logging
from typing import Any

from torch import nn

from instar.api.optimizers import bitsandbytes, lomo, low_rank, muon, native, schedulefree, variants, vendor
from instar.api.optimizers.options import read_options, split_options
from instar.api.optimizers.recipe import OptimizerArguments, Recipe, Request
from instar.config.faults import guess

logger = logging.getLogger(__name__)

RECIPES: dict[str, Recipe] = {
    **native.RECIPES,
    **vendor.RECIPES,
    **bitsandbytes.RECIPES,
    **low_rank.RECIPES,
    **lomo.RECIPES,
    **schedulefree.RECIPES,
    **variants.RECIPES,
    **muon.RECIPES,
}


def optimizer_class_and_kwargs(
    args: OptimizerArguments, model: nn.Module | None = None, *, num_training_steps: int | None = None
) -> tuple[Any, dict[str, Any]]:
    """The class (or a factory) that `args.optim` names, and its keyword arguments, as `build_optimizer` takes them.

    ValueError: an unknown name, with the nearest; faults of `optim_args`, all at once; a model that is needed and was
    not given. ImportError: a missing package, with the line that installs it.
    """
    name = str(getattr(args.optim, "value", args.optim))
    if name not in RECIPES:
        hint = guess(name, RECIPES)
        raise ValueError(f"optim: wanted one of {', '.join(sorted(RECIPES))}; got {name!r}{hint}")
    recipe = RECIPES[name]
    if getattr(args, "optim_target_modules", None) is not None and not recipe.reads_targets:
        logger.warning("optim_target_modules is for the GaLore and APOLLO optimizers; %s updates all parameters", name)
    options = read_options(split_options(args.optim_args), recipe.options, name)
    request = Request(name=name, args=args, model=model, num_training_steps=num_training_steps, options=options)
    found, kwargs = recipe.load(name), recipe.kwargs(request)
    return (found, kwargs) if recipe.finish is None else recipe.finish(request, found, kwargs)
