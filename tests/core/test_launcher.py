"""Which process of a run this one is: read from what launchers say, or refused by the variable's name."""

import pytest

from instar.core.errors import UsageError
from instar.core.launcher import ProcessRank, device_index, launched, must_find_each_other

SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
MEETING = {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, ProcessRank()),
        ({"RANK": "0"}, ProcessRank()),
        ({"WORLD_SIZE": "1"}, ProcessRank()),
        ({"LOCAL_RANK": "1"}, ProcessRank(local_rank=1)),
        (TORCHRUN, ProcessRank(1, 2, 1)),
        (SLURM, ProcessRank(2, 4, 1, "Slurm")),
        ({**SLURM, "WORLD_SIZE": "4"}, ProcessRank(2, 4, 1, "Slurm")),
        ({**SLURM, "RANK": "2", "WORLD_SIZE": "4"}, ProcessRank(2, 4, 1)),
        ({**SLURM, "RANK": "0", "WORLD_SIZE": "1"}, ProcessRank()),
        ({**SLURM, **TORCHRUN}, ProcessRank(1, 2, 1)),
        ({**SLURM, "RANK": "0", "WORLD_SIZE": "2"}, ProcessRank(0, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_LOCALID": "0"}, ProcessRank()),
        ({"SLURM_NTASKS": "8"}, ProcessRank()),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "3"}, ProcessRank(2, 3, 1, "Slurm")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, ProcessRank()),
        (OPEN_MPI, ProcessRank(3, 4, 0, "Open MPI")),
        ({**SLURM, "SLURM_PROCID": "0", **OPEN_MPI}, ProcessRank(3, 4, 0, "Open MPI")),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, ProcessRank(1, 2, None, "PMI")),
        ({"MV2_COMM_WORLD_RANK": "1", "MV2_COMM_WORLD_SIZE": "2"}, ProcessRank(1, 2, None, "MVAPICH")),
        ({"PMIX_RANK": "0"}, ProcessRank()),
    ],
)
def test_what_a_launcher_says_is_read(environment: dict[str, str], place: ProcessRank) -> None:
    assert launched(environment) == place


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, and RANK is not set: expected 0 to 1"),
        ({"RANK": "1"}, "RANK=1, and WORLD_SIZE is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2: expected 0 to 1"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE=0: expected at least 1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: expected at least 1"),
        ({**SLURM, "RANK": "0"}, "RANK=0, and Slurm says 2"),
        ({**SLURM, "WORLD_SIZE": "8"}, "WORLD_SIZE=8, and Slurm says 4"),
        ({**SLURM, "SLURM_PROCID": "4"}, "SLURM_PROCID=4: expected 0 to 3"),
        ({"SLURM_PROCID": "1"}, "SLURM_PROCID=1: .* SLURM_NTASKS .*not set"),
        ({"PMIX_RANK": "1"}, "PMIX_RANK=1: .*RANK and WORLD_SIZE"),
        ({**SLURM, "SLURM_LOCALID": "x"}, "SLURM_LOCALID='x'"),
        *(
            ({**TORCHRUN, name: value}, f"^{name}={value!r}: expected a whole number")
            for name in TORCHRUN
            for value in ("", "-1", "1.0", "one", " 1", "1_0", "\u0661", "9" * 12)
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason.replace("\u0661", ".*")):
        launched(environment)


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (
            SLURM,
            r"MASTER_ADDR and MASTER_PORT not set: Slurm started 4 processes .*scontrol show hostnames.*srun instar",
        ),
        (OPEN_MPI, "MASTER_ADDR and MASTER_PORT not set: Open MPI started 4 .*mpirun -x MASTER_ADDR"),
        ({**TORCHRUN, "MASTER_ADDR": "node1"}, "MASTER_PORT not set: .*torchrun --nproc-per-node"),
        ({**TORCHRUN, **MEETING, "MASTER_PORT": "http"}, "MASTER_PORT='http': expected 1 to 65535"),
        ({**TORCHRUN, **MEETING, "MASTER_PORT": "65536"}, "MASTER_PORT='65536': expected 1 to 65535"),
    ],
)
def test_processes_that_cannot_meet_are_given_the_command(environment: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        must_find_each_other(launched(environment), environment)
    must_find_each_other(launched(environment), {**environment, **MEETING})


def test_each_process_has_a_device_of_its_own() -> None:
    assert device_index(ProcessRank(), 4) == 0
    assert device_index(ProcessRank(1, 2, 1), 4) == 1
    assert device_index(launched(SLURM), 4) == 1
    assert device_index(ProcessRank(1, 2), 1) == 0, "one is visible: one machine, or one container, for each process"
    with pytest.raises(UsageError, match="LOCAL_RANK is not set: 4 GPUs are visible"):
        device_index(ProcessRank(1, 2), 4)
    with pytest.raises(UsageError, match="LOCAL_RANK=1: expected 0 to 0"):
        device_index(ProcessRank(1, 2, 1), 1, {})
    assert device_index(ProcessRank(1, 2, 1), 1, {"SLURM_GPUS_PER_TASK": "1"}) == 0
    with pytest.raises(UsageError, match="LOCAL_RANK=4: expected 0 to 3"):
        device_index(ProcessRank(4, 8, 4), 4, {"SLURM_GPUS_PER_TASK": "4"})
