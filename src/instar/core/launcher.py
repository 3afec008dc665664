"""Which process of a run this one is, as the launcher sets it in the environment.

`torchrun`'s variables come first (RANK, WORLD_SIZE, LOCAL_RANK), then those of Open MPI, MVAPICH, PMI, jsrun and Slurm,
so that a bare `mpirun` or `srun` starts one run and not as many single ones as there are tasks.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from instar.core.errors import UsageError

_SCHEDULERS: Mapping[str, tuple[str, tuple[str, ...], str]] = {
    "Open MPI": ("OMPI_COMM_WORLD_RANK", ("OMPI_COMM_WORLD_SIZE",), "OMPI_COMM_WORLD_LOCAL_RANK"),
    "MVAPICH": ("MV2_COMM_WORLD_RANK", ("MV2_COMM_WORLD_SIZE",), "MV2_COMM_WORLD_LOCAL_RANK"),
    "PMI": ("PMI_RANK", ("PMI_SIZE",), "MPI_LOCALRANKID"),
    "jsrun": ("JSM_NAMESPACE_RANK", ("JSM_NAMESPACE_SIZE",), "JSM_NAMESPACE_LOCAL_RANK"),
    "Slurm": ("SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS"), "SLURM_LOCALID"),
    "PMIx": ("PMIX_RANK", (), "PMIX_LOCAL_RANK"),
}
"""Variables of rank, number of processes (the first that is set), and rank on the machine. `mpirun` in a Slurm job
inherits Slurm's from the one task that it was started in, so Slurm comes late."""
_ALONE = "for a single process, set RANK=0 and WORLD_SIZE=1"


@dataclass(frozen=True)
class ProcessRank:
    """This process among those of its run."""

    rank: int = 0
    world_size: int = 1
    local_rank: int | None = None
    """Number on its machine; None where nothing sets it."""
    scheduler: str = ""
    """Whose variables set it; '' for RANK and WORLD_SIZE, or a single process."""


def launched(environment: Mapping[str, str] = os.environ) -> ProcessRank:
    """The rank of this process; UsageError names every variable that is missing or does not fit."""
    rank, world_size = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    local_rank = _number(environment, "LOCAL_RANK")
    if rank is not None and world_size is not None:
        found = ProcessRank(rank, world_size, local_rank)
        scheduled = _scheduled(environment) if local_rank is None and world_size > 1 else ProcessRank()
        if (scheduled.rank, scheduled.world_size) == (rank, world_size):
            found = ProcessRank(rank, world_size, scheduled.local_rank)
    else:
        found = _completed(rank, world_size, local_rank, _scheduled(environment))
    _must_fit(found)
    return found


def _completed(rank: int | None, world_size: int | None, local_rank: int | None, scheduled: ProcessRank) -> ProcessRank:
    """What a scheduler sets, where RANK or WORLD_SIZE is not set; the one that is must agree with it."""
    if scheduled.world_size > 1:
        given_twice = ((rank, scheduled.rank, "RANK"), (world_size, scheduled.world_size, "WORLD_SIZE"))
        for given, theirs, name in given_twice:
            if given not in (None, theirs):
                raise UsageError(
                    f"{name}={given}, and {scheduled.scheduler} says {theirs}: set both RANK and WORLD_SIZE, or none"
                )
        here = scheduled.local_rank if local_rank is None else local_rank
        return ProcessRank(scheduled.rank, scheduled.world_size, here, scheduled.scheduler)
    if rank is None and (world_size or 1) > 1:
        raise UsageError(
            f"WORLD_SIZE={world_size}, and RANK is not set: expected 0 to {(world_size or 1) - 1}; start the processes "
            f"with `torchrun --nproc-per-node N`, or set RANK for each of them; {_ALONE}"
        )
    if rank and world_size is None:
        raise UsageError(f"RANK={rank}, and WORLD_SIZE is not set: expected the number of processes; {_ALONE}")
    return ProcessRank(rank or 0, 1 if world_size is None else world_size, local_rank)


def _must_fit(process: ProcessRank) -> None:
    if process.world_size < 1:
        raise UsageError(f"WORLD_SIZE={process.world_size}: expected at least 1; {_ALONE}")
    if process.rank >= process.world_size:
        name, size = ("RANK", "WORLD_SIZE") if not process.scheduler else _names(process.scheduler)
        raise UsageError(
            f"{name}={process.rank}: expected 0 to {process.world_size - 1}, since {size}={process.world_size}; "
            f"{_ALONE}"
        )


def _names(scheduler: str) -> tuple[str, str]:
    rank, sizes, _ = _SCHEDULERS[scheduler]
    return rank, "/".join(sizes)


def _scheduled(environment: Mapping[str, str]) -> ProcessRank:
    """The rank that a scheduler gave to this process; one alone where none started several."""
    for scheduler, (rank_name, size_names, local_name) in _SCHEDULERS.items():
        rank = _number(environment, rank_name)
        sizes = [size for size in (_number(environment, name) for name in size_names) if size is not None]
        if rank is None or sizes[:1] == [1] or (not sizes and rank == 0):
            continue
        if not sizes:
            expected = " or ".join(size_names) or "RANK and WORLD_SIZE"
            raise UsageError(
                f"{rank_name}={rank}: one of several processes, and {expected} is not set; start with `torchrun`, or "
                f"set RANK and WORLD_SIZE; {_ALONE}"
            )
        return ProcessRank(rank, sizes[0], _number(environment, local_name), scheduler)
    return ProcessRank()


def must_find_each_other(process: ProcessRank, environment: Mapping[str, str] = os.environ) -> None:
    """UsageError where no address is set at which the processes meet."""
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    port = environment.get("MASTER_PORT", "")
    if not missing and re.fullmatch("[0-9]{1,5}", port, re.ASCII) and 0 < int(port) < 65536:
        return
    what = f"{' and '.join(missing)} not set" if missing else f"MASTER_PORT={port!r}: expected 1 to 65535"
    started = (
        f"{process.scheduler or 'the launcher'} started {process.world_size} processes (this is number {process.rank})"
    )
    raise UsageError(f"{what}: {started}, which must meet at one address; {_command(process.scheduler)}; {_ALONE}")


def export_rank(process: ProcessRank) -> None:
    """Set `torchrun`'s variables from a scheduler's: other libraries of this process read only those."""
    if process.scheduler:
        os.environ |= {"RANK": str(process.rank), "WORLD_SIZE": str(process.world_size)}
        if process.local_rank is not None:
            os.environ["LOCAL_RANK"] = str(process.local_rank)


def _command(scheduler: str) -> str:
    if scheduler == "Slurm":
        return (
            'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1) MASTER_PORT=29500 in the '
            "batch script before `srun instar train RUN.yaml`"
        )
    if scheduler:
        return (
            "export MASTER_ADDR=HOST_OF_RANK_0 MASTER_PORT=29500 and hand them to every process, for example "
            "`mpirun -x MASTER_ADDR -x MASTER_PORT -n N instar train RUN.yaml`"
        )
    return "start with `torchrun --nproc-per-node N -m instar.cli train RUN.yaml`, or set both for every process"


def device_index(process: ProcessRank, count: int, environment: Mapping[str, str] = os.environ) -> int:
    """Which of the `count` devices that this process sees is its own; UsageError where several would share one."""
    if process.local_rank is None:
        if process.world_size == 1 or count <= 1:
            return 0
        raise UsageError(
            f"LOCAL_RANK is not set: {count} GPUs are visible, and each of the {process.world_size} processes needs to "
            "know which is its own; start with `torchrun`, set LOCAL_RANK, or make one GPU visible to each "
            "(CUDA_VISIBLE_DEVICES)"
        )
    if process.local_rank < max(1, count):
        return process.local_rank
    if count == 1 and any(environment.get(name) for name in _BOUND):
        return 0
    raise UsageError(
        f"LOCAL_RANK={process.local_rank}: expected 0 to {count - 1}, for {count} GPUs are visible; start as many "
        "processes on a machine as it has GPUs (Slurm: `--gpus-per-task=1` gives each task its own)"
    )


_BOUND = ("SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK")
"""Set where Slurm shows each task its own devices only."""


def _number(environment: Mapping[str, str], name: str) -> int | None:
    value = environment.get(name)
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", value, re.ASCII):
        raise UsageError(f"{name}={value!r}: expected a whole number of at least 0; {_ALONE}")
    return int(value)
