"""What the steps of a run are made of. The loop and the step know nothing else of it."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from instar.trainer.state import LoopState, StepUpdate

StateT = TypeVar("StateT", bound=LoopState)
BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT", bound=StepUpdate)
_StateT_contra = TypeVar("_StateT_contra", bound=LoopState, contravariant=True)
_ResultT_co = TypeVar("_ResultT_co", bound=StepUpdate, covariant=True)


class Work(Protocol[_StateT_contra, BatchT, _ResultT_co]):
    """The data of each step and what is learned from them; `trainer.packed` has that of run files."""

    def passes(self, state: _StateT_contra) -> Generator[Iterator[BatchT], None, None]:
        """Passes over the data from where the run is, each a row of whole steps; both end when the run does."""
        ...

    def pieces(self, batch: BatchT) -> Sequence[Any]:
        """A step's batch in parts that fit in memory; one at least."""
        ...

    def learn(self, state: _StateT_contra, batch: BatchT, piece: Any) -> tuple[Tensor, ...]:
        """Forward and backward of a piece, its gradient weighted as a share of the whole step's; returns sums."""
        ...

    def cut_smaller(self, error: BaseException) -> bool:
        """True if `error` says that memory did not suffice and `pieces` will be smaller from now on."""
        ...

    def set_rate(self, state: _StateT_contra, batch: BatchT) -> float:
        """Give the optimizer the learning rate of this step; returns it."""
        ...

    def finish(self, state: _StateT_contra, batch: BatchT, sums: tuple[Tensor, ...], update: StepUpdate) -> _ResultT_co:
        """Count the step as done."""
        ...
