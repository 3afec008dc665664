"""Processes that a scheduler started are one run, or are refused before anything is written."""

import socket
import subprocess
import sys

import pytest

from instar.core.errors import UsageError
from tests.run.conftest import Workshop


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (
            {"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1"},
            "MASTER_ADDR.*Slurm started 2 .*srun instar",
        ),
        ({"SLURM_PROCID": "1"}, "SLURM_NTASKS"),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, "MASTER_ADDR.*Open MPI started 2 .*mpirun -x"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "MASTER_ADDR.*PMI started 2 "),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2: expected 0 to 1"),
        ({"RANK": "first", "WORLD_SIZE": "2"}, "RANK='first'"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR and MASTER_PORT not set"),
    ],
)
def test_processes_that_are_not_one_run_are_refused_and_leave_no_folder(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], reason: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=reason) as refused:
        workshop.train("mlm", ["train.device=cpu"], "run")
    assert refused.value.exit_code == 2
    assert not (workshop.folder / "run").exists()


JOINED = """
import os, sys
import torch
from torch import distributed
from instar.trainer.parallel.config import Auto
from instar.trainer.parallel.processes import Processes
torch.set_num_threads(1)
children = []
for number in range(2):
    child = os.fork()
    if child == 0:
        os.environ |= {"SLURM_PROCID": str(number), "SLURM_NTASKS": "2", "SLURM_LOCALID": str(number)}
        processes = Processes.join(Auto(), torch.device("cpu"))
        total = torch.tensor([10.0 ** processes.rank])
        distributed.all_reduce(total)
        said = [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")]
        line = f"{processes.rank} {processes.world_size} {total.item()} {' '.join(said)}"
        os.write(1, line.encode() + bytes([10]))  # in one write: both processes share the pipe
        processes.leave(0, together=True)
        os._exit(0)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_tasks_of_srun_are_one_run_where_they_are_told_where_to_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run([sys.executable, "-c", JOINED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 2 11.0 0 2 0", "1 2 11.0 1 2 1"]
