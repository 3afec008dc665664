"""Who shares what with whom: processes that read the same data hold parts of each layer, the others divide the data."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from instar.core.errors import UsageError
from instar.trainer.parallel.config import Auto, Ddp, Fsdp


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The place of a process. Neighbours in rank hold parts of the same layers, so that they share a machine."""

    data_rank: int = 0
    """Which share of each step's documents this process reads."""
    data_size: int = 1
    """Into how many shares a step is divided."""
    data_group: distributed.ProcessGroup | None = None
    """Those that read the other shares; None: all processes."""
    mesh: DeviceMesh | None = None
    """(replicas, shards, tp), where weights are sharded."""

    @classmethod
    def of(cls, parallel: Auto | Ddp | Fsdp, rank: int, world_size: int, device: torch.device) -> "Layout":
        """The layout that a run asks for; UsageError where the number of processes does not divide."""
        tp = parallel.tp
        replicas = parallel.replicas if isinstance(parallel, Fsdp) else max(1, world_size // tp)
        if world_size % (tp * replicas):
            raise UsageError(_does_not_divide(parallel, world_size))
        data_rank, data_size = rank // tp, world_size // tp
        if tp == 1 and not isinstance(parallel, Fsdp):
            return cls(data_rank=data_rank, data_size=data_size)
        shape = (replicas, world_size // (tp * replicas), tp)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("replicas", "shards", "tp"))
        return cls(data_rank=data_rank, data_size=data_size, data_group=_readers(rank, world_size, tp), mesh=mesh)

    @property
    def has_replicas(self) -> bool:
        """True where several processes have the same part of sharded weights."""
        return self.mesh is not None and self.mesh.size(0) > 1

    def shard_mesh(self) -> Any:
        """Over whom weights are sharded: (shards,), or (replicas, shards) where there are replicas."""
        if self.mesh is None:
            raise ValueError("a run whose weights are not sharded has no mesh")
        return self.mesh["replicas", "shards"] if self.has_replicas else self.mesh["shards"]

    def tp_mesh(self) -> DeviceMesh | None:
        """Over whom matrices are divided; None: nobody."""
        return self.mesh["tp"] if self.mesh is not None and self.mesh.size(2) > 1 else None


def _readers(rank: int, world_size: int, tp: int) -> distributed.ProcessGroup | None:
    """The group of processes with the same parts and other data; every process must ask for every group."""
    if tp == 1:
        return None
    groups: list[distributed.ProcessGroup] = [
        distributed.new_group(list(range(part, world_size, tp))) for part in range(tp)
    ]
    return groups[rank % tp]


def _does_not_divide(parallel: Auto | Ddp | Fsdp, world_size: int) -> str:
    there = "1 process" if world_size == 1 else f"{world_size} processes"
    if world_size % parallel.tp:
        wanted, key = parallel.tp, "tp"
    else:
        wanted, key = parallel.tp * getattr(parallel, "replicas", 1), "replicas"
    return (
        f"train.parallel.{key}: wanted a multiple of {wanted} processes; this run has {there}; start it with "
        f"`torchrun --nproc-per-node {wanted} -m instar.cli train ...`, or change the run file"
    )
