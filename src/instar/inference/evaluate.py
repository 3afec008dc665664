"""Scores of a split, from sums and counts.

Shape letters: M places where something is predicted, D documents, C classes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from instar import metric
from instar.core.errors import DataError
from instar.data import Batch
from instar.metric import Likelihood
from instar.model import Network
from instar.objective import judge
from instar.task import Moment, TaskLike

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
            if self.task.answer == "tokens":
                return self._token_scores(batches)
            return self._label_scores(batches)

    def _token_scores(self, batches: Iterable[Batch]) -> dict[str, Any]:
        likelihood = Likelihood()
        for batch, counts in self.in_step(batches):
            prepared = self._prepared(batch)
            said = self.network(prepared)
            if prepared.num_targets == 0 or not counts:
                continue
            judged = judge(said, _targets(prepared))
            likelihood += Likelihood.of(judged.loss_M.cpu(), judged.correct_M.cpu(), _characters(prepared))
        numbers = self.gather(np.asarray([likelihood.numbers()], dtype=np.int64)).sum(axis=0)
        summed = Likelihood(*numbers.tolist())
        if summed.count == 0:
            raise DataError("evaluation: no token of these documents can be predicted; give more or longer texts")
        is_masked = self.task.head == "masked_lm"
        characters = None if is_masked or summed.characters == 0 else summed.characters
        return metric.language_model_scores(summed.nll_sum, summed.correct, summed.count, characters, masked=is_masked)

    def _label_scores(self, batches: Iterable[Batch]) -> dict[str, Any]:
        samples: list[NDArray[Any]] = []
        labels: list[NDArray[Any]] = []
        logits: list[NDArray[Any]] = []
        for batch, counts in self.in_step(batches):
            prepared = self._prepared(batch)
            said = self.network(prepared)
            if counts:
                samples.append(prepared.samples_D)
                logits.append(said.logits_MV().float().cpu().numpy())
                labels.append(_targets(prepared).cpu().numpy())
        samples_D, labels_D, logits_DC = (
            self.gather(np.concatenate(parts) if parts else np.empty(0)) for parts in (samples, labels, logits)
        )
        order_D = np.argsort(samples_D, kind="stable")  # a sum of floats depends on its order
        labels_D, logits_DC = labels_D[order_D], logits_DC[order_D]
        if labels_D.ndim == 2:
            return metric.multi_label_scores(labels_D, logits_DC, self.label_names or ())
        if np.issubdtype(labels_D.dtype, np.floating):
            return metric.regression_scores(labels_D, logits_DC[:, 0])
        return metric.classification_scores(labels_D, logits_DC, self.label_names or ())

    def _prepared(self, batch: Batch) -> Batch:
        moment = Moment(seed=self.seed, step=0, progress=1.0, evaluating=True)
        return self.task.prepare(batch, moment).to(self.device)


class evaluation_mode:  # noqa: N801 (a context manager, used as a verb)
    """The network does not drop anything within; its mode is as before after."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __enter__(self) -> None:
        self._was_training = self.network.training
        self.network.eval()

    def __exit__(self, *error: object) -> None:
        self.network.train(self._was_training)


def _targets(batch: Batch) -> Tensor:
    if batch.target_M is None:
        raise ValueError("a task must prepare a batch before it can be scored")
    return batch.target_M


def _characters(batch: Batch) -> int:
    """Characters of the tokens that a causal model predicts: those after the places it reads."""
    if batch.characters_T is None or batch.read_M is None:
        return 0
    following_M = (batch.read_M + 1).clamp(max=batch.num_tokens - 1)
    return int(batch.characters_T[following_M].sum())
