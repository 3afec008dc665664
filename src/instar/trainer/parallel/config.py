"""How the processes of a run share its work: `train.parallel`, one class a kind."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from instar.config import Config

Backend = Literal["auto", "gloo", "nccl", "ccl", "mpi", "hccl", "cncl", "mccl", "xccl", "ucc"]
Reduced = Literal["float32", "bf16", "fp16"]


class _Several(Config):
    """What every kind has."""

    tp: Annotated[int, Field(ge=1)] = 1
    """Processes that each hold a part of every layer's matrices (tensor parallel); the others share the data."""
    backend: Backend = "auto"
    """How processes talk; auto: NCCL for GPUs, Gloo for CPUs."""
    timeout: Annotated[float, Field(gt=0)] = 30.0
    """Minutes until a process that waits for another gives up."""


class Auto(_Several):
    """One process: nothing to share. Several: as `ddp` with its defaults."""

    kind: Literal["auto"] = "auto"


class Ddp(_Several):
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


class Fsdp(_Several):
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


def _kind(value: Any) -> str | None:
    """The kind that a value names; none is `auto`."""
    return value.get("kind", "auto") if isinstance(value, dict) else getattr(value, "kind", None)


Parallel = Annotated[
    Annotated[Auto, Tag("auto")] | Annotated[Ddp, Tag("ddp")] | Annotated[Fsdp, Tag("fsdp")],
    Discriminator(_kind),
]
"""Any way to run on several processes, chosen by `kind`."""
