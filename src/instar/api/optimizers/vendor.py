"""Optimizers that live with one vendor's hardware, and those of torchao."""

from typing import Any

from instar.api.optimizers.options import dtype, flag, whole
from instar.api.optimizers.recipe import Recipe, Request


def _torchao(name: str) -> Recipe:
    return Recipe(
        target=f"torchao.optim:{name}",
        install="pip install 'torchao>=0.11'",
        betas=True,
        eps=True,
        fixed={"block_size": 256, "bf16_stochastic_round": False},
        options={"block_size": whole, "bf16_stochastic_round": flag},
    )


def _with_dtypes(request: Request, found: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Names of dtypes as dtypes; PyTorch is not imported before an optimizer is asked for."""
    del request
    return found, {
        name: dtype(value) if name.endswith("_dtype") and isinstance(value, str) else value
        for name, value in kwargs.items()
    }


RECIPES = {
    "adamw_torch_4bit": _torchao("AdamW4bit"),
    "adamw_torch_8bit": _torchao("AdamW8bit"),
    "adamw_torch_xla": Recipe(
        target="torch_xla.amp.syncfree:AdamW",
        install="pip install torch_xla, on a TPU; adamw_torch runs everywhere",
        betas=True,
        eps=True,
    ),
    "adamw_torch_npu_fused": Recipe(
        target="torch_npu.optim:NpuFusedAdamW",
        install="pip install torch_npu, on an Ascend NPU; adamw_torch_fused runs everywhere",
        betas=True,
        eps=True,
    ),
    "adamw_anyprecision": Recipe(
        target="torchdistx.optimizers:AnyPrecisionAdamW",
        install="build https://github.com/pytorch/torchdistx (no longer kept up); adamw_torch_8bit saves more",
        betas=True,
        eps=True,
        fixed={
            "use_kahan_summation": False,
            "momentum_dtype": "float32",
            "variance_dtype": "float32",
            "compensation_buffer_dtype": "bfloat16",
        },
        options={
            "use_kahan_summation": flag,
            "momentum_dtype": dtype,
            "variance_dtype": dtype,
            "compensation_buffer_dtype": dtype,
        },
        finish=_with_dtypes,
    ),
}
