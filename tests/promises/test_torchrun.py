"""Under `torchrun`: a killed rank is started again by itself, and a job that is asked to leave saves first."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from faults import ForkServer
from runs import left
from test_parallel import ranks

PROGRAM = Path(__file__).with_name("torchrun.py")
KEPT = ("train.save_every=2 steps", "train.eval_every=100 steps", "train.parallel={kind: fsdp}")


def test_killed_and_asked_to_leave(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """Rank 1 dies after step 3; the second life goes on from step 2, and torchrun gets SIGTERM in step 5."""
    small, folder, said = shrunk("text-characters").but(*KEPT), tmp_path / "run", tmp_path / "said.jsonl"
    job = {
        "arguments": ["train", str(small.file), *small.overrides, "--output", str(folder)],
        "events": [[0, 3, 1, signal.SIGKILL, "self"], [1, 5, 0, signal.SIGTERM, "parent"]],
        "said": str(said),
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, "--max-restarts", "1", str(PROGRAM), str(tmp_path / "job.json")],
        env=one_thread,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    lines = [json.loads(line) for line in said.read_text().splitlines()]
    first, second = ([line for line in lines if line["life"] == life and "step" in line] for life in (0, 1))
    assert {line["step"] for line in first} == {1, 2, 3}, done.stderr
    assert {line["step"] for line in second} == {3, 4, 5}, done.stderr
    gap = second[0]["time"] - first[-1]["time"]
    start_up = max(line["time"] - line["started"] for line in first if line["step"] == 1)  # any start costs that here
    assert gap <= max(30, 15 + start_up)
    assert [line["code"] for line in lines if line["life"] == 1 and "code" in line] == [75, 75], done.stderr
    assert (folder / "checkpoint-5").is_dir()
    assert done.returncode != 0  # torchrun has its own word for it
    for place in (folder, tmp_path / "whole"):
        assert ranks(fork_server, small, place, world=2)[0] == [0, 0]
    assert left(folder) == left(tmp_path / "whole")
