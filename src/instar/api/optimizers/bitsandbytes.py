"""The optimizers of bitsandbytes: state in 8 or 32 bits, in pages that can leave a GPU.

Names say the bits; `rmsprop_bnb` and `ademamix` alone mean 32.
"""

from typing import Any

from instar.api.optimizers.options import flag, number, whole
from instar.api.optimizers.recipe import Recipe, Request

_INSTALL = "pip install -U bitsandbytes"


def _adam(bits: int, *, is_paged: bool = False) -> Recipe:
    return Recipe(
        target="bitsandbytes.optim:AdamW",
        install=_INSTALL,
        betas=True,
        eps=True,
        fixed={"optim_bits": bits, "is_paged": is_paged},
    )


def _lion(bits: int, *, is_paged: bool = False) -> Recipe:
    return Recipe(
        target="bitsandbytes.optim:Lion",
        install=_INSTALL,
        betas=True,
        fixed={"optim_bits": bits, "is_paged": is_paged},
    )


def _rmsprop(bits: int) -> Recipe:
    return Recipe(
        target="bitsandbytes.optim:RMSprop",
        install=_INSTALL,
        fixed={"optim_bits": bits},
        options={"alpha": number, "eps": number, "momentum": number, "centered": flag, "min_8bit_size": whole},
    )


def _ademamix(bits: int, *, is_paged: bool = False) -> Recipe:
    return Recipe(
        target="bitsandbytes.optim:AdEMAMix",
        install=_INSTALL,
        betas=True,
        eps=True,
        fixed={"alpha": 5.0, "optim_bits": bits, "is_paged": is_paged},
        options={
            "beta1": number,
            "beta2": number,
            "beta3": number,
            "alpha": number,
            "eps": number,
            "t_alpha": whole,
            "t_beta3": whole,
        },
        finish=_three_betas,
    )


def _three_betas(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The slow mean's decay stands beside the two of Adam."""
    first, second = request.adam["betas"]
    betas = (kwargs.pop("beta1", first), kwargs.pop("beta2", second), kwargs.pop("beta3", 0.9999))
    return found, kwargs | {"betas": betas}


RECIPES = {
    "adamw_bnb_8bit": _adam(8),
    "adamw_8bit": _adam(8),
    "paged_adamw_32bit": _adam(32, is_paged=True),
    "paged_adamw_8bit": _adam(8, is_paged=True),
    "lion_8bit": _lion(8),
    "lion_32bit": _lion(32),
    "paged_lion_8bit": _lion(8, is_paged=True),
    "paged_lion_32bit": _lion(32, is_paged=True),
    "rmsprop_bnb": _rmsprop(32),
    "rmsprop_bnb_8bit": _rmsprop(8),
    "rmsprop_bnb_32bit": _rmsprop(32),
    "ademamix": _ademamix(32),
    "ademamix_8bit": _ademamix(8),
    "paged_ademamix_32bit": _ademamix(32, is_paged=True),
    "paged_ademamix_8bit": _ademamix(8, is_paged=True),
}
