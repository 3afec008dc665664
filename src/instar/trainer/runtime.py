"""Where a run runs: device, precision and ranks. Only this file and the folder `parallel` beside it know the engine.

The engine is plain PyTorch: under `torchrun`, or any launcher that `core.launcher` knows,
each process is a rank of one run; without them the run is one process.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from instar.core.errors import UsageError
from instar.core.launcher import device_index, launched
from instar.data import Batch
from instar.objective import Objective
from instar.trainer.parallel import group, parts
from instar.trainer.parallel.config import Auto, Ddp, Fsdp
from instar.trainer.parallel.layout import Layout
from instar.trainer.parallel.pieces import in_step, pieces_of, spare_piece
from instar.trainer.parallel.processes import Processes

Precision = Literal["float32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One process of a run; on a single process every exchange is the identity.

    Processes that hold parts of the same layers (tensor parallel) read the same documents: `data_rank` of
    `data_size` is the share of a step that this process reads, `rank` of `world_size` is the process.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = "float32"
    parallel: Auto | Ddp | Fsdp = field(default_factory=Auto)
    processes: Processes = field(default_factory=Processes)
    layout: Layout = field(default_factory=Layout)

    @classmethod
    def start(
        cls, device: str = "auto", precision: Precision = "float32", parallel: Auto | Ddp | Fsdp | None = None
    ) -> "Runtime":
        """Join the ranks the launcher made, on the device asked for; UsageError if there is none.

        A process group that is open already, by Accelerate or by the user's own script, is the one that is used.
        """
        parallel = parallel or Auto()
        chosen = _device(device)
        processes = Processes.join(parallel, chosen)
        try:
            layout = Layout.of(parallel, processes.rank, processes.world_size, chosen)
        except UsageError as error:
            processes.leave(error.exit_code, together=False)
            raise
        return cls(device=chosen, precision=precision, parallel=parallel, processes=processes, layout=layout)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.processes.rank

    @property
    def world_size(self) -> int:
        """Processes of the run."""
        return self.processes.world_size

    @property
    def data_rank(self) -> int:
        """Which share of each step this process reads; names its random numbers too."""
        return self.layout.data_rank

    @property
    def data_size(self) -> int:
        """Into how many shares a step is divided."""
        return self.layout.data_size

    @property
    def is_main(self) -> bool:
        """True on the one process that writes files and talks."""
        return self.rank == 0

    @property
    def is_sharded(self) -> bool:
        """True where a process has only parts of the weights: then all must make each forward pass together."""
        return self.layout.mesh is not None

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module on the device, made to add up its gradients over ranks in backward; of an objective, its network.

        What is sharded is sharded in place: make the optimizer after it, from the same names.
        """
        if self.is_sharded:
            self._shard(module.network if isinstance(module, Objective) else module)
            return module.to(self.device) if not _offloads(self.parallel) else module
        module.to(self.device)
        if self.world_size == 1:
            return module
        ddp = self.parallel if isinstance(self.parallel, Ddp) else Ddp()
        return DistributedDataParallel(
            module,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            bucket_cap_mb=ddp.bucket_cap_mb,
            find_unused_parameters=ddp.find_unused_parameters,
            broadcast_buffers=ddp.broadcast_buffers,
            static_graph=ddp.static_graph,
        )

    def _shard(self, module: nn.Module) -> None:
        from instar.trainer.parallel.shard import agree, shard
        from instar.trainer.parallel.tensor import split_layers

        if self.world_size > 1:
            agree(module, self.device)
        tp_mesh = self.layout.tp_mesh()
        if tp_mesh is not None:
            split_layers(module, tp_mesh)
        if isinstance(self.parallel, Fsdp):
            shard(module, self.parallel, self.layout.shard_mesh())
        elif self.data_size > 1:  # every process has its whole part: replicas of one
            shard(module, Fsdp(replicas=self.data_size, reshard_after_forward=False), self.layout.shard_mesh())

    def arrange(self, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
        """The optimizer, its groups cut so that one kernel can take each; call it before the first step."""
        if self.is_sharded:
            from instar.trainer.parallel.groups import cut_groups

            cut_groups(optimizer)
        return optimizer

    def scaler(self) -> torch.amp.GradScaler:
        """What scales the loss in fp16; does nothing in other precisions."""
        is_on = self.precision == "fp16"
        if self.is_sharded and is_on:
            from instar.trainer.parallel.scaler import ShardedScaler

            return ShardedScaler(self.device.type)
        return torch.amp.GradScaler(self.device.type, enabled=is_on)

    def share(self, batch: Batch) -> Batch:
        """This rank's documents of a step: every n-th, so that sorted lengths spread evenly.

        A rank left without a document reads one without targets, and so adds nothing.
        """
        if self.data_size == 1:
            return batch
        mine = range(self.data_rank, len(batch), self.data_size)
        return batch.select(mine) if mine or batch.read_M is None else spare_piece(batch)

    def pieces(self, batch: Batch, max_tokens: int | None) -> list[Batch]:
        """This rank's share in pieces of at most `max_tokens`; where all go forward together, as many on each rank."""
        return pieces_of(self.share(batch), batch, max_tokens, self.data_size if self.is_sharded else 1)

    def in_step(self, batches: Iterable[Batch], spare: Batch | None = None) -> Iterator[tuple[Batch, bool]]:
        """Batches with True; where all go forward together, a rank with fewer gets `spare` with False after its own."""
        if self.is_sharded and self.data_size > 1:
            return in_step(batches, spare, self.any)
        return ((batch, True) for batch in batches)

    def autocast(self) -> AbstractContextManager[object]:
        """The precision that forward passes run in."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])

    @contextmanager
    def synchronized(self, module: nn.Module, when: bool) -> Iterator[None]:  # noqa: FBT001
        """Exchange gradients in the backward within, or (when False) leave them for a later one.

        Sharded gradients are handed to their owners in every backward, so that none has them whole for long; only
        replicas wait for the last.
        """
        if self.layout.has_replicas:
            from instar.trainer.parallel.shard import defer_replicas

            defer_replicas(module, not when)
        # DDP's static graph cannot begin with a backward pass that exchanges nothing; to exchange twice changes no sum.
        deferred = isinstance(module, DistributedDataParallel) and not when and not module.static_graph
        with module.no_sync() if deferred else nullcontext():  # type: ignore[operator]
            yield

    def clip(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Scale the gradient down to a norm; returns the norm that the whole gradient had, the same on every rank."""
        if self.is_sharded:
            from instar.trainer.parallel.gradients import clip_sharded

            return clip_sharded(parameters, max_norm, self.device)
        return nn.utils.clip_grad_norm_(parameters, max_norm, foreach=True)

    def settle(self, module: nn.Module) -> None:
        """Before weights are read or changed between steps: parameters are what is trained, not copies of it."""
        if self.is_sharded:
            parts.settle(module)

    def weights(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's `state_dict`, whole, on the main process; the others help, and get nothing. All must call it."""
        self.settle(module)
        return self.whole(_plain(module).state_dict(keep_vars=True))

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors by name, whole, in the main process's memory; the others help, and get none. All must call it."""
        return parts.whole_tensors(tensors, keep=self.is_main)

    def load_weights(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Give the module whole tensors by name, each rank its part; KeyError for a name it does not have."""
        self.settle(module)
        parts.load_whole(_plain(module), weights)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's `state_dict`, whole, on the main process; the others get no values. All must call it."""
        return parts.whole_state(optimizer, keep=self.is_main)

    def load_optimizer_state(self, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
        """Take back what `optimizer_state` gave on any number of ranks; each rank keeps its part."""
        parts.load_state(optimizer, state)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the shares of the data, element by element."""
        if self.data_size > 1:
            values = values.clone()
            distributed.all_reduce(values, group=self.layout.data_group)
        return values

    def any(self, flag: bool) -> bool:  # noqa: FBT001
        """True on every rank if the flag is up on one."""
        if self.world_size == 1:
            return flag
        flags = torch.tensor(float(flag), device=self.device)
        distributed.all_reduce(flags)
        return bool(flags.item())

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The rows of all shares of the data, uneven as they may be, in their order; a rank may have none."""
        if self.data_size == 1:
            return rows
        from instar.trainer.parallel.rows import gather_rows

        return gather_rows(rows, self.data_size, self.layout.data_group, self.device)

    def exchange(self, message: bytes) -> list[bytes]:
        """The messages of all ranks, uneven as they may be, in their order. All must call it."""
        return group.exchange(message) if self.world_size > 1 else [message]

    def exchange_numbers(self, numbers: Sequence[int]) -> list[list[int]]:
        """The numbers of all ranks, in their order, without waiting for a device; each must give as many."""
        return group.exchange_numbers(numbers) if self.world_size > 1 else [list(numbers)]

    def from_main(self, message: bytes) -> bytes:
        """The main process's message, on every rank; those of the others are not read. All must call it."""
        return group.from_main(message) if self.world_size > 1 else message

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            distributed.barrier()

    def failed(self, code: int) -> tuple[bool, int]:
        """(True on the one rank that tells the user why the run ends, the exit code of that rank)."""
        return self.processes.failed(code)

    def leave(self, code: int, *, together: bool = True) -> None:
        """Make this process end with `code`, without the abort that gloo's tear-down can raise; one process returns.

        Ranks that leave together wait for each other, and only the main one returns, to say what came of the
        run; its exit follows. A rank that failed alone does not wait: the launcher ends the others.
        """
        self.processes.leave(code, together=together)


def _plain(module: nn.Module) -> nn.Module:
    inner = module.module if isinstance(module, DistributedDataParallel) else module
    assert isinstance(inner, nn.Module)
    return inner


def _offloads(parallel: Auto | Ddp | Fsdp) -> bool:
    return isinstance(parallel, Fsdp) and parallel.cpu_offload


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
    if name.startswith("cuda"):
        place = launched()
        mine = device_index(place, torch.cuda.device_count()) if name == "cuda" or place.world_size > 1 else None
        if name != "cuda" and mine is not None and number != str(mine):
            raise UsageError(
                f"train.device: got {name} for each of {place.world_size} processes, and this one's is cuda:{mine}; "
                "write cuda, which gives each its own"
            )
        if name == "cuda":
            name = f"cuda:{mine}"
            torch.cuda.set_device(name)
    return torch.device(name)
