"""Arguments in two processes: they meet when the arguments are made, and the main one goes first."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from tests.processes import start

CHILD = """
import json, os, sys, time
from pathlib import Path
from instar.api.arguments import TrainingArguments
from torch import distributed

folder = Path(sys.argv[1])
args = TrainingArguments(str(folder), use_cpu=True, ddp_timeout=60, ddp_backend="gloo")
with args.main_process_first(desc="a file"):
    saw = (folder / "first").exists()
    if args.process_index == 0:
        time.sleep(0.3)
        (folder / "first").touch()
print(json.dumps({
    "is_open": distributed.is_initialized(), "backend": distributed.get_backend(), "mode": args.parallel_mode.value,
    "world": args.world_size, "rank": args.process_index, "local": args.local_process_index,
    "logs": args.should_log, "saves": args.should_save, "saw": saw, "batch": args.train_batch_size,
}), flush=True)
distributed.barrier()
os._exit(0)
"""


@pytest.mark.slow
def test_two_processes_meet_and_the_main_one_goes_first(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    children = [
        start(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
        )
        for rank in range(2)
    ]
    said = [child.communicate(timeout=900) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    main, other = (json.loads(output.splitlines()[-1]) for output, _ in said)
    both = {"is_open": True, "backend": "gloo", "mode": "distributed", "world": 2, "batch": 8}
    assert main == {**both, "rank": 0, "local": 0, "logs": True, "saves": True, "saw": False}
    assert other == {**both, "rank": 1, "local": 1, "logs": False, "saves": False, "saw": True}
