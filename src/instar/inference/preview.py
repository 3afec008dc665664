"""Predictions for a few rows, in a form that a person can read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.inference.base import Row, TaskLike
from instar.inference.evaluate import evaluation_mode
from instar.model import Network

MOST_TOKENS = 200


@dataclass(frozen=True, kw_only=True)
class Preview:
    """Rows of samples.jsonl for one task."""

    network: Network
    task: TaskLike
    tokenizer: Tokenizer
    seed: int
    label_names: Sequence[str] | None = None
    label_kind: str = "none"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def rows(self, batch: Batch) -> Iterator[Row]:
        """One row a document, as the task's answer gives it."""
        yield from self.task.answer.preview(self, batch)

    def each(self, batch: Batch) -> Iterator[Batch]:
        """The documents one by one, the network in evaluation mode meanwhile."""
        for document in range(len(batch)):
            with evaluation_mode(self.network):
                yield batch.select([document])


def in_parts(network: Network) -> bool:
    """True where this process holds only its part of some of the weights."""
    return any(hasattr(parameter, "placements") for parameter in network.parameters())
