"""Weights in parts (Rajbhandari et al. 2020; Zhao et al. 2023)."""

from typing import Annotated, Literal

from pydantic import Field

from instar.trainer.parallel.several import Several

Reduced = Literal["float32", "bf16", "fp16"]


class Fsdp(Several):
    """Every process holds a part of each weight, its gradient and its optimizer state (PyTorch's FSDP2)."""

    kind: Literal["fsdp"] = "fsdp"
    replicas: Annotated[int, Field(ge=1)] = 1
    """Copies of the whole sharded model; 2 on 16 processes: two copies, each shared by 8 (one a machine, say)."""
    layers: tuple[str, ...] | None = None
    """Classes whose modules are gathered one at a time; null: the model's own repeated layers."""
    min_parameters: Annotated[int, Field(ge=1)] | None = None
    """Instead of `layers`: the smallest modules with at least this many parameters are gathered one at a time."""
    reshard_after_forward: bool = True
    """Let go of a layer's gathered weights between forward and backward; false: faster, and needs more memory."""
    cpu_offload: bool = False
    """Keep weights, gradients and optimizer state in the CPU's memory while they are not used."""
    param_dtype: Reduced | None = None
    """Type that weights are gathered and used in; null: as they are stored, which is float32."""
    reduce_dtype: Reduced | None = None
    """Type that gradients are added up in; null: that of the weights used."""
    forward_prefetch: Annotated[int, Field(ge=0)] = 0
    """Layers that are gathered ahead in the forward pass, beside the one that PyTorch gathers ahead by itself."""
