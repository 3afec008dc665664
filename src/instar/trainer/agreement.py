"""Ranks of one run compare what they are about to do; where they differ, all stop, and the odd ones are named."""

import json
import socket
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from instar.checkpoint.values import from_json, to_json
from instar.core.errors import (
    DataError,
    DiskError,
    InputMissingError,
    InstarError,
    OutputError,
    TrainingError,
    UsageError,
)
from instar.data import Batch
from instar.trainer.runtime import Runtime

MOST_NAMED = 8
"""Ranks that a message names, and facts that it lists; more are counted."""
_KINDS = {
    kind.exit_code: kind for kind in (InstarError, UsageError, DataError, InputMissingError, OutputError, DiskError)
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
    ranks = _exchanged(runtime, {"facts": dict(facts)})
    differing = [line for name in _names(ranks) for line in _differences(name, ranks)]
    if differing:
        raise kind(f"the processes of this run differ{where}, so all of them stop:\n" + "\n".join(_few(differing)))


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

    Where it raises an InstarError on some, all raise one of that exit code: the error itself if every rank met the
    same, otherwise one that names the ranks that met it.
    """
    value: Any = None
    error: InstarError | None = None
    try:
        value = work()
    except InstarError as met:
        error = met
    if runtime.world_size > 1:
        _raise_of_all(_exchanged(runtime, _described(error)), error)
    elif error is not None:
        raise error
    return value  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Rank:
    number: int
    host: str
    said: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"rank {self.number} on {self.host}"


def _exchanged(runtime: Runtime, said: Mapping[str, Any]) -> list[_Rank]:
    messages = [from_json(part) for part in runtime.exchange(to_json({"host": socket.gethostname(), "said": said}))]
    return [_Rank(number, message["host"], message["said"]) for number, message in enumerate(messages)]


def _names(ranks: Sequence[_Rank]) -> Iterable[str]:
    return dict.fromkeys(name for rank in ranks for name in rank.said["facts"])


def _differences(name: str, ranks: Sequence[_Rank]) -> Iterable[str]:
    """A line for each value of a fact that is not the usual one."""
    values = [rank.said["facts"].get(name, "nothing") for rank in ranks]
    counts = Counter(values)
    usual = max(counts, key=lambda value: (counts[value], value == values[0]))
    odd: dict[str, list[str]] = {}
    for rank, value in zip(ranks, values, strict=True):
        if value != usual:
            odd.setdefault(value, []).append(rank.name)
    return [f"  {name}: expected {usual}; {_listed(those)}: got {value}" for value, those in odd.items()]


def _described(error: InstarError | None) -> dict[str, Any]:
    return {} if error is None else {"code": error.exit_code, "message": str(error)}


def _raise_of_all(ranks: Sequence[_Rank], mine: InstarError | None) -> None:
    failed = [rank for rank in ranks if rank.said]
    if not failed:
        return
    texts: dict[str, list[str]] = {}
    for rank in failed:
        texts.setdefault(rank.said["message"], []).append(rank.name)
    if mine is not None and len(failed) == len(ranks) and len(texts) == 1:
        raise mine
    lines = [f"{_listed(those)}: {text}" for text, those in texts.items()]
    if len(failed) < len(ranks):
        lines.append(f"(the other processes of this run, {len(ranks) - len(failed)} of {len(ranks)}, met no fault)")
    raise _KINDS.get(failed[0].said["code"], InstarError)("\n".join(_few(lines)))


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*names[:MOST_NAMED], *more])


def _few(lines: Sequence[str]) -> list[str]:
    more = [f"  and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else []
    return [*lines[:MOST_NAMED], *more]
