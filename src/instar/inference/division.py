"""Work on batches, divided among processes so that the result is that of one process, bit for bit.

A batch is computed whole, by one process, with the same rows in it as on one: numbers do not depend on the division.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError

Row = dict[str, Any]
Exchange = Callable[[bytes], list[bytes]]
Item = TypeVar("Item")


def _alone(message: bytes) -> list[bytes]:
    return [message]


@dataclass(frozen=True)
class Division:
    """Which of the batches this process computes, and how the results of all come together.

    All processes must make the same calls in the same order.
    """

    rank: int = 0
    size: int = 1
    exchange: Exchange = _alone
    """The messages of all processes, in the order of ranks."""

    @property
    def is_main(self) -> bool:
        """True on the process that writes and prints."""
        return self.rank == 0

    def mine(self, batches: Sequence[Item]) -> Sequence[Item]:
        """Every `size`-th batch, from number `rank` on."""
        return batches[self.rank :: self.size]

    def rows(self, batches: Sequence[Item], compute: Callable[[Item], list[Row]], read: object) -> list[list[Row]]:
        """The rows of every batch, in the order of the batches, on all processes; rows hold what JSON can hold.

        `read` is what the batches are made of. DataError on all processes where one has read something else.
        """
        if self.size == 1:
            return [compute(batch) for batch in batches]
        digest = hashlib.sha256(json.dumps(read).encode()).hexdigest().encode()
        differing = [rank for rank, theirs in enumerate(self.exchange(digest)) if theirs != digest]
        if differing:
            raise DataError(
                f"the processes of this command read different texts: rank {self.rank} others than rank "
                f"{', '.join(map(str, differing[:8]))}; give every host the same file"
            )
        mine = json.dumps([compute(batch) for batch in self.mine(batches)])
        parts: list[list[list[Row]]] = [json.loads(part) for part in self.exchange(mine.encode())]
        return [parts[number % self.size][number // self.size] for number in range(len(batches))]

    def arrays(self, mine: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
        """The named arrays of all processes, in the order of ranks."""
        if self.size == 1:
            return [dict(mine)]
        from safetensors.numpy import load, save

        message = save({name: np.ascontiguousarray(values) for name, values in mine.items()})
        return [load(part) for part in self.exchange(message)]

    def gather(self, rows: NDArray[Any]) -> NDArray[Any]:
        """The rows of all processes, one below the other in the order of ranks; a process may have none."""
        parts = [part["rows"] for part in self.arrays({"rows": rows})]
        filled = [part for part in parts if len(part)]
        return np.concatenate(filled) if filled else rows
