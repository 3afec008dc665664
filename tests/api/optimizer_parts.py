"""A model with a matrix of 8-bit size, and arguments for every name of `optim`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from instar.api.optimizers import (
    RECIPES,
)

# B batch, D features
NEEDS_HARDWARE = ("adamw_torch_xla", "adamw_torch_npu_fused", "adamw_anyprecision")
NEEDS_CUDA = ("galore_adamw_8bit", "galore_adamw_8bit_layerwise")
NOT_INSTALLED = ("adamw_torch_4bit", "adamw_torch_8bit")
ON_A_CPU = sorted(RECIPES.keys() - {*NEEDS_HARDWARE, *NEEDS_CUDA, *NOT_INSTALLED})
RATES = {"sgd": 0.1, "schedule_free_sgd": 1.0, "lomo": 0.1, "lion_8bit": 1e-3, "lion_32bit": 1e-3}


@dataclass(kw_only=True)
class Arguments:
    optim: Any = "adamw_torch"
    optim_args: str | None = None
    optim_target_modules: Any = None
    learning_rate: float = 1e-2
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_epsilon: float = 1e-7
    warmup_steps: float = 0
    gradient_accumulation_steps: int = 1
    world_size: int = 1
    fp16: bool = False
    fsdp: bool | None = None


class Small(nn.Module):
    """Over 4,096 values in a matrix, so that 8-bit states are really of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 64)
        self.attn = nn.Linear(64, 66)
        self.norm = nn.LayerNorm(66)
        self.head = nn.Linear(66, 3)

    def forward(self, ids_B: Tensor) -> Tensor:
        return self.head(self.norm(torch.tanh(self.attn(self.embed(ids_B)))))


def arguments(name: str, **given: Any) -> Arguments:
    targets = {"optim_target_modules": ["attn"]} if RECIPES[name].reads_targets else {}
    options = "rank=4,update_proj_gap=3" if RECIPES[name].reads_targets else None
    rate = RATES.get(name, 1e-3 if "lion" in name or "rmsprop" in name else 1e-2)
    return Arguments(**{"optim": name, "learning_rate": rate, "optim_args": options} | targets | given)
