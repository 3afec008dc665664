"""Scores of a split, from sums and counts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from instar.data import Batch
from instar.inference.base import StepContext, TaskLike
from instar.model import Forward, Network

Gather = Callable[[NDArray[Any]], NDArray[Any]]


InStep = Callable[[Iterable[Batch]], Iterable[tuple[Batch, bool]]]


def _alone(rows: NDArray[Any]) -> NDArray[Any]:
    return rows


def _all_count(batches: Iterable[Batch]) -> Iterable[tuple[Batch, bool]]:
    return ((batch, True) for batch in batches)


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Scores a network on a task; masks are fixed by the seed, so scores can be compared."""

    network: Network
    task: TaskLike
    seed: int
    device: torch.device
    label_names: Sequence[str] | None = None
    gather: Gather = _alone
    """Rows of all ranks, one below the other; each rank scores its own share of the batches."""
    in_step: InStep = _all_count
    """Batches and whether they count: ranks that can only go forward together get some that do not."""

    @torch.no_grad()
    def scores(self, batches: Iterable[Batch]) -> dict[str, Any]:
        """Scores over all documents of the batches: the same at every batch size and number of ranks.

        The network is in evaluation mode within and as it was after; no random state is touched.
        """
        with evaluation_mode(self.network):
            return self.task.answer.scores(self, batches)

    def passes(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Forward]]:
        """Each batch that counts and has targets, prepared, with what the network makes of it."""
        context = StepContext.of_evaluation(self.seed)
        for batch, counts in self.in_step(batches):
            prepared = self.task.prepare(batch, context).to(self.device)
            outputs = self.network(prepared)
            if counts and prepared.num_targets:
                yield prepared, outputs


class evaluation_mode:  # noqa: N801 (a context manager, used as a verb)
    """The network does not drop anything within; its mode is as before after."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self._was_training = self.network.training
        self.network.eval()

    def __exit__(self, *error: object) -> None:
        self.network.train(self._was_training)
