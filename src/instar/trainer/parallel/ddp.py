"""Whole models that divide the data (Li et al. 2020)."""

from typing import Annotated, Literal

from pydantic import Field

from instar.trainer.parallel.several import Several


class Ddp(Several):
    """Every process holds the whole model; gradients are added up in the backward pass."""

    kind: Literal["ddp"] = "ddp"
    bucket_cap_mb: Annotated[int, Field(ge=1)] | None = None
    """Mebibytes of gradients that are exchanged at once; null: as PyTorch has it (25)."""
    find_unused_parameters: bool = True
    """Look after each forward pass for parameters that it did not use; false is faster and fails if there are some."""
    broadcast_buffers: bool = False
    """Give every process the main one's buffers before each forward pass."""
    static_graph: bool = False
    """Promise that every step uses the same parameters in the same order."""
