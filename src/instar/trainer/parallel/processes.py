"""The processes of a run find each other, talk with one voice, and leave in order."""

import atexit
import os
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from instar.core.errors import UsageError
from instar.core.launcher import export_rank, launched, must_find_each_other
from instar.trainer.parallel.config import Auto, Ddp, Fsdp
from instar.trainer.parallel.differences import differences, message_of, said

_c10d: Any = distributed  # its stores are not typed

_SOON = timedelta(seconds=10)


class Processes:
    """This process among those of its run: the group that plain PyTorch talks through."""

    def __init__(self, rank: int = 0, world_size: int = 1, store: Any = None) -> None:
        """Where `store` is given, the group was opened here and is closed here."""
        self.rank = rank
        self.world_size = world_size
        self._store = store

    @classmethod
    def join(cls, parallel: Auto | Ddp | Fsdp, device: torch.device) -> "Processes":
        """Meet the processes the launcher made (`launched`); a group that is open already is used as it is.

        A single process needs a group only where its weights are to be sharded. UsageError for a backend that
        this PyTorch does not have, for processes that cannot find each other, and on all of them where one was to
        share the work in another way.
        """
        if distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        place = launched()
        rank, world_size = place.rank, place.world_size
        if world_size == 1 and not isinstance(parallel, Fsdp):
            return cls()
        if world_size > 1:
            must_find_each_other(place)
            export_rank(place)
        backend = _backend(parallel.backend, device)
        timeout = timedelta(minutes=parallel.timeout)
        store = _store(rank, world_size, timeout)
        _compare(store, rank, world_size, {"train.parallel": parallel.model_dump_json(), "device": device.type})
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
        return cls(rank, world_size, store)

    @classmethod
    def before(cls) -> "Processes":
        """The processes of the launcher before they have met, for one that fails so early."""
        try:
            place = launched()
            if place.world_size == 1:
                return cls()
            must_find_each_other(place)
            return cls(place.rank, place.world_size, _store(place.rank, place.world_size, _SOON))
        except (UsageError, RuntimeError):  # they cannot meet, or the main process, which keeps the list, is gone
            return cls()

    def failed(self, code: int) -> tuple[bool, int]:
        """(True on the one process that tells the user why the run ends, the exit code of all).

        What the others met is the same, or follows from it: an exchange that the first one has left fails.
        The process that keeps the list stays, at most 10 s, until the others have asked.
        """
        if self._store is None or self.world_size == 1:
            return True, code
        first = f"{self.rank} {code}"
        with suppress(RuntimeError):  # whoever kept the list is gone
            first = self._store.compare_set("first", "", first).decode()
            self._store.add("failed", 1)
            end = time.monotonic() + _SOON.total_seconds()
            while self._keeps_the_list() and self._store.add("failed", 0) < self.world_size and time.monotonic() < end:
                time.sleep(0.02)
        rank, code = map(int, first.split())
        return rank == self.rank, code

    def _keeps_the_list(self) -> bool:
        """`torchrun` keeps it in a process of its own, which outlives all of them."""
        return self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"

    def leave(self, code: int, *, together: bool) -> None:
        """Make this process end with `code`, without the abort that gloo's tear-down can raise.

        Processes that leave together wait for each other, and only the main one returns, to say what came of the
        run; its exit follows. One that failed alone does not wait: the launcher ends the others.
        A single process returns, and can open another group.
        """
        if self.world_size == 1:
            if self._store is not None and distributed.is_initialized():
                distributed.destroy_process_group()
            return
        if together:
            distributed.barrier()
            distributed.destroy_process_group()
        if together and self.rank != 0:
            _exit(code)
        atexit.register(_exit, code)  # before the interpreter's own tear-down

    def is_first_to_notice(self) -> bool:
        """True on the one of the remaining processes that reports that another was lost."""
        if self._store is not None:
            with suppress(RuntimeError):  # lost with the process that kept the list
                return bool(self._store.add("lost", 1) == 1)
        return True


def _store(rank: int, world_size: int, timeout: timedelta) -> Any:
    """Where processes leave their addresses; each life of a job that `torchrun` restarts has its own.

    `torchrun` keeps one store over restarts, and addresses of dead processes in it would be waited for for ever.
    """
    if world_size == 1:
        return _c10d.HashStore()
    store, _, _ = next(_c10d.rendezvous("env://", rank, world_size, timeout=timeout))
    life = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return _c10d.PrefixStore(f"instar/{life}", store)


def _compare(store: Any, rank: int, world_size: int, facts: dict[str, str]) -> None:
    """UsageError on all processes where one differs in what the group itself is made by: they could not even meet."""
    keys = [f"facts of {number}" for number in range(world_size)]
    store.set(keys[rank], message_of(facts))
    differing = differences(said([bytes(message) for message in store.multi_get(keys)]))
    if differing:
        raise UsageError(f"the processes of this run differ, so all of them stop:\n{differing}")


def _backend(name: str, device: torch.device) -> str:
    if name == "auto":
        return "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if not distributed.is_backend_available(name):
        raise UsageError(
            f"train.parallel.backend: this PyTorch has no {name}; write auto, which is gloo for CPUs and nccl for GPUs"
        )
    return name


def _exit(code: int) -> Any:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
