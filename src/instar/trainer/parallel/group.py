"""The open group of processes: which one this is, and bytes and tensors from process to process.

Without a group every function is that of a single process. Nothing is pickled: PyTorch's collectives of objects
(`all_gather_object`, `broadcast_object_list`) are, so a message here is bytes, such as `to_json` makes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, distributed


def is_open() -> bool:
    """Whether the processes have met."""
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    """Number of this process."""
    return distributed.get_rank() if is_open() else 0


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if is_open() else 1


def wait_for_all() -> None:
    """Return when every process has called it."""
    if world_size() > 1:
        distributed.barrier()


def close() -> None:
    """Leave the group, if one is open."""
    if is_open():
        distributed.destroy_process_group()


def exchange(message: bytes) -> list[bytes]:
    """The messages of all processes, in the order of ranks. All must call it; lengths may differ."""
    if world_size() == 1:
        return [message]
    lengths = [int(length) for length in gather_tensors(torch.tensor(len(message), device=_device()), world_size())]
    padded = torch.zeros(max(lengths), dtype=torch.uint8, device=_device())
    padded[: len(message)] = _tensor(message)
    parts = gather_tensors(padded, world_size())
    return [part.cpu().numpy().tobytes()[:length] for part, length in zip(parts, lengths, strict=True)]


def exchange_numbers(numbers: Sequence[int]) -> list[list[int]]:
    """The numbers of all processes, in the order of ranks, in one exchange; each must give as many."""
    mine = torch.tensor(numbers, dtype=torch.int64, device=_device())
    return [theirs.tolist() for theirs in gather_tensors(mine, world_size())]


def from_main(message: bytes) -> bytes:
    """The main process's message, on every process. All must call it; those of the others are not read."""
    if world_size() == 1:
        return message
    length = torch.tensor(len(message), device=_device())
    distributed.broadcast(length, src=0)
    content = _tensor(message) if rank() == 0 else torch.empty(int(length), dtype=torch.uint8, device=_device())
    distributed.broadcast(content, src=0)
    return content.cpu().numpy().tobytes()


def gather_tensors(mine: Tensor, size: int, group: distributed.ProcessGroup | None = None) -> list[Tensor]:
    """The tensors of the `size` processes of a group, which have one shape and type, in the order of ranks."""
    parts = [torch.empty_like(mine) for _ in range(size)]
    distributed.all_gather(parts, mine.contiguous(), group=group)
    return parts


def _tensor(message: bytes) -> Tensor:
    return torch.from_numpy(np.frombuffer(message, dtype=np.uint8).copy()).to(_device())


def _device() -> torch.device:
    """Where the group exchanges: a group of NCCL alone has GPUs only."""
    only_gpus = str(distributed.get_backend()) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if only_gpus else torch.device("cpu")
