"""Whole tensors, one after the other, from all processes to the main one."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from instar.trainer.parallel.parts import whole


class Stream:
    """Tensors that all processes make whole in one order, each let go of before the next.

    The main process takes them; whatever becomes of what it does with them, all call `finish`, so that none waits.
    """

    def __init__(self, tensors: Mapping[str, Tensor], order: Sequence[str]) -> None:
        self._left = deque(tensors[name] for name in order)

    def __iter__(self) -> Iterator[Tensor]:
        while self._left:
            yield whole(self._left.popleft())

    def finish(self) -> None:
        """Make what is left."""
        deque(self, maxlen=0)
