"""Ranks of one run compare what they are about to do; where they differ, all stop, and the odd ones are named."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch

from instar.core.errors import (
    DataError,
    DiskError,
    InputMissingError,
    InstarError,
    OutputError,
    ResourceError,
    TrainingError,
    UsageError,
)
from instar.core.limits import named
from instar.data import Batch
from instar.trainer.parallel.differences import Said, differences, few, listed, message_of, said
from instar.trainer.runtime import Runtime

_KINDS = {
    kind.exit_code: kind
    for kind in (InstarError, UsageError, DataError, InputMissingError, ResourceError, OutputError, DiskError)
}

Value = TypeVar("Value")


def agree(runtime: Runtime, facts: Mapping[str, str], kind: type[InstarError], *, where: str = "") -> None:
    """Return once every rank has given the same facts (name: value); all must call it.

    An error of `kind`, the same on every rank, where one differs: it lists each fact that differs with the value
    that most ranks have (the main process's, where as many have another), and each rank of another value by number
    and host.
    """
    if runtime.world_size == 1:
        return
    differing = differences(_exchanged(runtime, facts))
    if differing:
        raise kind(f"the processes of this run differ{where}, so all of them stop:\n{differing}")


def of_main(runtime: Runtime, scores: dict[str, Any]) -> dict[str, Any]:
    """The main process's scores on every rank, so that all decide alike what they decide by them. All must call it.

    The last bit of a root or an exponential depends on the kind of CPU, and what only the main process knows is there.
    """
    if runtime.world_size == 1:
        return scores
    same: dict[str, Any] = json.loads(runtime.from_main(json.dumps(scores).encode()))
    return same


def agree_on_step(runtime: Runtime, step: int, batch: Batch) -> None:
    """TrainingError on all ranks where one has prepared another step: other documents, masked tokens or targets.

    Every rank prepares the whole step and computes its share of it; lengths of later exchanges follow from the step.
    What goes from rank to rank are five numbers, which the host knows: no device is waited for.
    """
    if runtime.world_size == 1:
        return
    numbers = [step, len(batch), batch.num_tokens, batch.num_targets, _checksum(batch)]
    if all(theirs == numbers for theirs in runtime.exchange_numbers(numbers)):
        return
    names = ("step", "documents", "tokens", "targets", "checksum of tokens, positions and targets")
    facts = dict(zip(names, map(str, numbers), strict=True))
    agree(runtime, facts, TrainingError, where=f" in what they prepared for step {step}")


def _checksum(batch: Batch) -> int:
    """CRC-32 of what a prepared step shows the network and asks of it."""
    found = zlib.crc32(batch.samples_D.tobytes())
    for tensor in (torch.tensor(batch.lengths), batch.ids_T, batch.read_M, batch.target_M):
        if tensor is not None:
            found = zlib.crc32(tensor.contiguous().numpy().data, found)
    return found


def together(runtime: Runtime, work: Callable[[], Value]) -> Value:
    """What `work` gives on this rank, once it has given something on all of them; all must call it.

    Where it raises an InstarError on some, or the system refuses something, all raise one of that exit code: the error
    itself if every rank met the same, otherwise one that names the ranks that met it.
    """
    if runtime.world_size == 1:
        return work()
    try:
        value = work()
    except Exception as met:
        error = met if isinstance(met, InstarError) else named(met)
        if error is None:
            raise
        _raise_of_all(_exchanged(runtime, {"code": error.exit_code, "message": str(error)}), error)
        raise
    _raise_of_all(_exchanged(runtime, {}), None)
    return value


def _exchanged(runtime: Runtime, value: Mapping[str, Any]) -> list[Said]:
    return said(runtime.exchange(message_of(value)))


def _raise_of_all(ranks: Sequence[Said], mine: InstarError | None) -> None:
    failed = [rank for rank in ranks if rank.value]
    if not failed:
        return
    texts: dict[str, list[str]] = {}
    for rank in failed:
        texts.setdefault(rank.value["message"], []).append(rank.name)
    if mine is not None and len(failed) == len(ranks) and len(texts) == 1:
        raise mine
    lines = [f"{listed(those)}: {text}" for text, those in texts.items()]
    if len(failed) < len(ranks):
        lines.append(f"(the other processes of this run, {len(ranks) - len(failed)} of {len(ranks)}, met no fault)")
    raise _KINDS.get(failed[0].value["code"], InstarError)(few(lines))
