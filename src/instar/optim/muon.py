"""Muon for hidden matrices, AdamW for embeddings, heads and vectors (Jordan et al. 2024, Liu et al. 2025)."""

from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from instar.config import Config
from instar.optim.groups import muon_groups
from instar.optim.orthogonal import MuonAdamW


class Muon(Config):
    """Steps hidden matrices along the orthogonal matrix nearest to their momentum, everything else by AdamW."""

    kind: Literal["muon"] = "muon"
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Peak learning rate of all parameters: a matrix's step is scaled to the size that AdamW's would have."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of the running mean of a matrix's gradients."""
    nesterov: bool = True
    """Look one gradient ahead of that mean."""
    num_iterations: Annotated[int, Field(ge=1, le=20)] = 5
    """Steps of the iteration that makes a matrix orthogonal."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """AdamW's: decay of the running mean of gradients and of their squares."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's: added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Applied to matrices only, embeddings and heads among them."""

    def build(self, named: Iterable[tuple[str, nn.Parameter]]) -> torch.optim.Optimizer:
        """The optimizer; hidden matrices are recognized by name, and a non-finite step is skipped on the device."""
        return MuonAdamW(
            muon_groups(named, self.weight_decay),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            momentum=self.momentum,
            nesterov=self.nesterov,
            num_iterations=self.num_iterations,
        )
