"""How a run is spread over processes."""

from dataclasses import dataclass
from typing import Any

from instar.api.arguments.option import option

BACKENDS = ["nccl", "gloo", "mpi", "xccl", "hccl", "cncl", "mccl"]


@dataclass(repr=False)
class DistributedArguments:
    """Every process holds the model: DistributedDataParallel."""

    ddp_find_unused_parameters: bool | None = option(None, "look for parameters without a gradient in every step")
    ddp_bucket_cap_mb: int | None = option(None, "MiB of gradients exchanged at a time; unset: PyTorch's 25")
    ddp_broadcast_buffers: bool | None = option(None, "copy buffers from the main process before every forward")
    ddp_static_graph: bool | None = option(None, "promise that every step uses the same parameters")
    ddp_backend: str | None = option(None, "how processes talk; unset: nccl on GPUs, else gloo", choices=BACKENDS)
    ddp_timeout: int = option(1800, "seconds that a process waits for the others")


@dataclass(repr=False)
class ShardingArguments:
    """Every process holds a part of the model: FSDP2, also from a DeepSpeed file."""

    fsdp: str | None = option(None, "shard parameters, gradients and optimizer state", nargs="?", const=True)
    fsdp_config: dict[str, Any] | str | None = option(None, "how they are sharded: a mapping, or a JSON file with one")
    deepspeed: dict | str | None = option(  # type: ignore[type-arg]
        None, "a DeepSpeed configuration, honoured by its meaning: a mapping, or a JSON file with one"
    )
