"""Optimizers that come with PyTorch and Transformers."""

from instar.api.optimizers.options import flag, number
from instar.api.optimizers.recipe import Recipe

_ADAMW = {"amsgrad": flag, "maximize": flag, "foreach": flag, "capturable": flag}

RECIPES = {
    "adamw_torch": Recipe(target="torch.optim:AdamW", betas=True, eps=True, options=_ADAMW),
    "adamw_torch_fused": Recipe(
        target="torch.optim:AdamW",
        betas=True,
        eps=True,
        fixed={"fused": True},
        options={"amsgrad": flag, "maximize": flag, "capturable": flag},
    ),
    "adafactor": Recipe(
        target="transformers.optimization:Adafactor",
        fixed={"scale_parameter": False, "relative_step": False},
        options={"clip_threshold": number, "decay_rate": number, "beta1": number},
    ),
    "sgd": Recipe(
        target="torch.optim:SGD",
        options={"momentum": number, "dampening": number, "weight_decay": number, "nesterov": flag},
    ),
    "adagrad": Recipe(
        target="torch.optim:Adagrad", options={"lr_decay": number, "weight_decay": number, "eps": number}
    ),
    "rmsprop": Recipe(
        target="torch.optim:RMSprop",
        options={"momentum": number, "alpha": number, "eps": number, "weight_decay": number, "centered": flag},
    ),
}
