"""Where a run runs: device, precision and ranks. The only file that knows the engine.

The engine is plain PyTorch: under `torchrun`, or any launcher that sets RANK and WORLD_SIZE,
each process is a rank of one run; without them the run is one process.
"""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from instar.core.errors import UsageError
from instar.data import Batch
from instar.objective import Objective

Precision = Literal["float32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process of a run; on a single process every exchange is the identity."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "float32"
    rank: int = 0
    world_size: int = 1

    @classmethod
    def start(cls, device: str = "auto", precision: Precision = "float32") -> "Runtime":
        """Join the ranks the launcher made, on the device asked for; UsageError if there is none."""
        chosen = _device(device)
        world_size = int(os.environ.get("WORLD_SIZE", "1"))
        if world_size > 1:
            distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
        return cls(device=chosen, precision=precision, rank=int(os.environ.get("RANK", "0")), world_size=world_size)

    @property
    def is_main(self) -> bool:
        """True on the one process that writes files and talks."""
        return self.rank == 0

    def wrap(self, objective: Objective) -> nn.Module:
        """The objective, made to add up its gradients over ranks in backward."""
        objective.to(self.device)
        if self.world_size == 1:
            return objective
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(objective, device_ids=devices, find_unused_parameters=True)

    def share(self, batch: Batch) -> Batch:
        """This rank's documents of a step: every n-th, so that sorted lengths spread evenly.

        A rank left without a document reads one without targets, and so adds nothing.
        """
        if self.world_size == 1:
            return batch
        mine = range(self.rank, len(batch), self.world_size)
        if mine or batch.read_M is None or batch.target_M is None:
            return batch.select(mine)
        return replace(batch.select(range(1)), read_M=batch.read_M[:0], target_M=batch.target_M[:0])

    def autocast(self) -> AbstractContextManager[object]:
        """The precision that forward passes run in."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])

    @contextmanager
    def synchronized(self, module: nn.Module, when: bool) -> Iterator[None]:  # noqa: FBT001
        """Exchange gradients in the backward within, or (when False) leave them for a later one."""
        deferred = isinstance(module, DistributedDataParallel) and not when
        with module.no_sync() if deferred else nullcontext():  # type: ignore[operator]
            yield

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, element by element."""
        if self.world_size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:  # noqa: FBT001
        """True on every rank if the flag is up on one."""
        if self.world_size == 1:
            return flag
        return bool(self.sum(torch.tensor(float(flag), device=self.device)).item())

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The rows of all ranks, uneven as they may be, in the order of ranks; a rank may have none."""
        if self.world_size == 1:
            return rows
        parts: list[NDArray[Any] | None] = [None] * self.world_size
        distributed.all_gather_object(parts, rows)
        filled = [part for part in parts if part is not None and len(part)]
        return np.concatenate(filled) if filled else rows

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            distributed.barrier()

    def leave(self, code: int, *, together: bool = True) -> None:
        """Make this process end with `code`, without the abort that gloo's tear-down can raise; nothing on one process.

        Ranks that leave together wait for each other, and only the main one returns, to say what came of the
        run; its exit follows. A rank that failed alone does not wait: the launcher ends the others.
        """
        if self.world_size == 1:
            return
        if together:
            distributed.barrier()
            distributed.destroy_process_group()
        if together and not self.is_main:
            _exit(code)
        atexit.register(_exit, code)  # before the interpreter's own tear-down


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            "train.device: cuda was asked for, and PyTorch sees no GPU here; write cpu, or see `instar doctor`"
        )
    number = name.removeprefix("cuda:")
    if number.isdecimal() and int(number) >= torch.cuda.device_count():
        raise UsageError(f"train.device: got {name}, and the GPUs here are 0 to {torch.cuda.device_count() - 1}")
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(name)
    return torch.device(name)
