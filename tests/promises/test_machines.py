"""Promise 1 on other machines than this one, as far as the libraries let this one compute as they do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MACHINES: dict[str, dict[str, str]] = {
    "nothing exported, torch loaded first": {},
    "the oldest kernels": {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "two threads, AVX2": {"MKL_CBWR": "AVX2,STRICT", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"},
}
_SELECTED_BY = ("MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_LIVES = """
import sys
from pathlib import Path
import torch
torch.ones(8, 8) @ torch.ones(8, 8)
from recipes import small
from runs import break_off, left, run
folder, threads = Path(sys.argv[1]), sys.argv[2]
shrunk = small("movie-rating", folder).but(f"train.threads={threads}")  # products of one column
run(shrunk, folder / "whole")
break_off(shrunk, folder / "run", "saved", 3)
run(shrunk, folder / "run")
assert left(folder / "run") == left(folder / "whole")
"""


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_ended_and_resumed_on(machine: str, tmp_path: Path) -> None:
    chosen = MACHINES[machine]
    environment = {name: value for name, value in os.environ.items() if name not in _SELECTED_BY}
    environment |= {"OMP_NUM_THREADS": "1", **chosen, "PYTHONPATH": os.pathsep.join(sys.path)}
    (tmp_path / "cache").mkdir()
    command = [sys.executable, "-c", _LIVES, str(tmp_path), environment["OMP_NUM_THREADS"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
