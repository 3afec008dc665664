"""Verbs on several processes: their work is divided, one process writes and prints, and an error is reported once."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from instar.core.errors import DataError, InstarError
from instar.core.limits import named
from instar.inference.division import Division
from instar.run.ranks import versions
from instar.run.saved import Ready
from instar.trainer.callbacks.untouched import weights_digest
from instar.trainer.parallel import group
from instar.trainer.parallel.config import Auto
from instar.trainer.parallel.differences import differences, message_of, said
from instar.trainer.parallel.processes import Processes

Verb = TypeVar("Verb", bound=Callable[..., Any])

_RESULT, _ERROR = b"+", b"-"
_INTERRUPTED = 130
_TIMEOUT = 24 * 60.0
"""Minutes that a process waits for another: one that ended is noticed at once, the others may just be slow."""


def division() -> Division:
    """The share of this process in the work of all."""
    return Division(group.rank(), group.world_size(), _exchanged)


def must_be_alike(ready: Ready, **read: str) -> None:
    """DataError on all processes where one has another model or tokenizer, or has `read` something else.

    All must call it. Processes that are not alike would mix their rows and sums.
    """
    if group.world_size() == 1:
        return
    facts = versions() | {"weights": weights_digest(ready.network), "tokenizer": ready.tokenizer.fingerprint} | read
    differing = differences(said(_exchanged(message_of(facts))))
    if differing:
        raise DataError(f"the processes of this command differ, so all of them stop:\n{differing}")


def divided(verb: Verb) -> Verb:
    """A verb that all processes of a launcher (RANK, WORLD_SIZE) run together; it returns on the main one only.

    Where it fails on one process it fails on all with that exit code, and the error is raised on that one alone: a
    process that fails reports it in place of its next message, so that none waits for a message that never comes.
    """

    @wraps(verb)
    def together(*args: Any, **keywords: Any) -> Any:
        if os.environ.get("WORLD_SIZE", "1") == "1" or group.is_open():
            return verb(*args, **keywords)
        import torch

        processes = Processes.join(Auto(backend="gloo", timeout=_TIMEOUT), torch.device("cpu"))
        try:
            result = verb(*args, **keywords)
            _exchanged(b"")  # nobody leaves before all are done
        except BaseException as error:
            is_reported_here, code = _ending(error, processes)
            processes.leave(code, together=False)
            if is_reported_here:
                raise
            raise SystemExit(code) from None
        processes.leave(0, together=True)
        return result

    return together  # type: ignore[return-value]


def _ending(error: BaseException, processes: Processes) -> tuple[bool, int]:
    """(whether this process reports the error, exit code of all)."""
    if isinstance(error, _LostProcess):
        return processes.is_first_to_notice(), error.exit_code
    if isinstance(error, _FailedElsewhere):
        code = error.code
    elif isinstance(error, Exception):
        own = getattr(named(error) or error, "exit_code", InstarError.exit_code)
        try:
            rank, code = _first_failed(_sent(_ERROR + str(own).encode())) or (processes.rank, own)
        except _LostProcess:
            return processes.is_first_to_notice(), own
        if rank == processes.rank:
            return True, own
    else:
        return True, _INTERRUPTED if isinstance(error, KeyboardInterrupt) else InstarError.exit_code
    with suppress(RuntimeError):
        group.wait_for_all()  # until the process that reports has ended: a launcher ends all once one has failed
    return False, code


class _FailedElsewhere(Exception):
    """Another process reports an error."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class _LostProcess(InstarError):
    """Another process ended without a message."""


def _exchanged(message: bytes) -> list[bytes]:
    """The messages of all processes; _FailedElsewhere where one of them sent an error instead."""
    messages = _sent(_RESULT + message)
    failed = _first_failed(messages)
    if failed is not None:
        raise _FailedElsewhere(failed[1])
    return [theirs[1:] for theirs in messages]


def _sent(message: bytes) -> list[bytes]:
    try:
        return group.exchange(message)
    except RuntimeError as error:
        raise _LostProcess(
            "another process of this command ended without a message (killed, perhaps for the memory it took); "
            "nothing was written; run the command again"
        ) from error


def _first_failed(messages: list[bytes]) -> tuple[int, int] | None:
    """(rank, exit code) of the first process that sent an error."""
    failed = [(rank, int(message[1:])) for rank, message in enumerate(messages) if message[:1] == _ERROR]
    return failed[0] if failed else None
