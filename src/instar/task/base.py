"""The contract between a task and the trainer. A task makes targets; it computes no loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from instar.core import seeds
from instar.data import Batch

HeadName = Literal["masked_lm", "causal_lm", "classify"]
Layout = Literal["encoder", "decoder"]
Answer = Literal["tokens", "label"]


@dataclass(frozen=True)
class Moment:
    """Where in a run a batch is prepared, and for what; names the batch's randomness."""

    seed: int
    step: int
    progress: float
    """Share of the budget spent, 0 to 1."""
    evaluating: bool = False
    """True: targets are the same at every step, so that scores can be compared."""

    def key(self, purpose: str) -> int:
        """Seed of the draws of one purpose at this moment."""
        if self.evaluating:
            return seeds.derive(self.seed, "evaluate", purpose)
        return seeds.derive(self.seed, purpose, self.step)


class TaskLike(Protocol):
    """Decides what to predict, for one whole optimizer step at a time."""

    head: HeadName
    answer: Answer

    def prepare(self, batch: Batch, moment: Moment) -> Batch:
        """The batch with its inputs changed where need be, `read_M` and `target_M`.

        A function of the batch's samples and the moment: neither micro-batches nor ranks
        can change it. Raises DataError if nothing in it can be predicted, but not in evaluation:
        there a batch may be as small as one document, and its targets may be none.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What the task has learnt about its data, for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        ...


class FixedTask:
    """Base of tasks that learn nothing about their data."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state; got {sorted(state)}")
