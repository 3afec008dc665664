"""What the lives of the fault harness run: the real trainer on shrunk recipes, in processes of their own."""

import atexit
import json
import os
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import torch
import torch.distributed.fsdp  # so that no rank of a sharded run has to import it
from recipes import RECIPES, Small, small
from runs import run

from instar.cli import main
from instar.core.errors import DiskError
from instar.core.rundir import RunFolder
from instar.run import ranks as versions
from instar.task.mlm import MaskedLMTask
from instar.trainer.callbacks.log import Log
from instar.trainer.callbacks.signals import Signals


def _warm() -> None:
    """Train every recipe for a step, so that no life has to import what a run needs."""
    with TemporaryDirectory() as place:
        (Path(place) / "cache").mkdir()
        for name in RECIPES:
            run(small(name, Path(place)), Path(place) / name, "train.budget=1 steps")


def train(folder: Path, file_name: str, overrides: list[str], resume: str = "auto") -> None:
    """A life of a run that ends when the budget is spent."""
    run(Small(file_name, tuple(overrides)), folder, resume=resume)


def command(folder: Path, arguments: list[str], signals: list[Any] | None = None) -> None:
    """`instar ...`; at the end of each step named in `signals` ([step, signal] pairs) the process gets the signal."""
    stepped = Signals.step_ended

    def signalled(self: Signals, state: Any, result: Any) -> None:
        for step, number in signals or ():
            if state.step == step:
                os.kill(os.getpid(), number)
        stepped(self, state, result)

    Signals.step_ended = signalled
    main(arguments)


def ranks(
    folder: Path,
    arguments: list[str],
    world: int = 2,
    signals: list[Any] | None = None,
    odd: dict[str, Any] | None = None,
) -> None:
    """`instar ...` on several ranks at once; codes.json says how each of them left.

    `odd` makes a second host of the last rank: its `command`, and a `fault` by name; ranks begin in `folders`.
    """
    torch.set_num_threads(1)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(world):
        mine = dict(odd or {}) if rank == world - 1 else {}
        child = os.fork()
        if child == 0:
            os.chdir((odd or {}).get("folders", ["."] * world)[rank])
            FAULTS[mine.get("fault", "none")]()
            _rank(mine.get("command", arguments), signals, rank, world, port)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    folder.with_name(f"{folder.name}-codes.json").write_text(json.dumps(codes))


def _lists_nothing() -> None:
    """What a network file system may do for a while."""
    RunFolder.checkpoints = lambda self: []


def _other_version() -> None:
    known = versions.version
    versions.version = lambda name: "0.0.1" if name == "transformers" else known(name)


def _masks_less(after: int = 3) -> None:
    """One masked token fewer than the others, from a step on."""
    chosen = MaskedLMTask._choose

    def choose(self: MaskedLMTask, batch: Any, moment: Any) -> Any:
        positions = chosen(self, batch, moment)
        return positions if moment.evaluating or moment.step < after else positions[:-1]

    MaskedLMTask._choose = choose


def _fails_alone() -> None:
    def fail(self: Log, state: Any, result: Any) -> None:
        raise DiskError("the disk of one host is full")

    Log.step_ended = fail


FAULTS = {
    "none": lambda: None,
    "lists nothing": _lists_nothing,
    "other version": _other_version,
    "masks less": _masks_less,
    "fails alone": _fails_alone,
}


def _rank(arguments: list[str], signals: list[Any] | None, *place: int) -> NoReturn:
    names = ("RANK", "WORLD_SIZE", "MASTER_PORT")
    os.environ |= {name: str(number) for name, number in zip(names, place, strict=True)}
    os.environ |= {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    try:
        command(Path(), arguments, signals)
    finally:
        _leave(sys.exc_info()[1])


def _leave(error: BaseException | None) -> NoReturn:
    """Leave as the interpreter would: handlers first, then the code."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 99)


if Path(getattr(sys.modules["__main__"], "__file__", None) or "").name == "lives.py":
    _warm()
