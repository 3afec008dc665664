"""The loss of an evaluation: the sum over all targets divided by their number, whatever the batches were."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from instar.api.containers import PADDING

_log = logging.getLogger(__name__)


def count_targets(
    inputs: Any, label_names: Sequence[str], *, shifts: bool = False, config: Any = None
) -> Tensor | int | None:
    """How many targets the mean loss of this batch is over, where its labels tell; None where only rows can be counted.

    Integer labels count where they are not -100 (or what the model's config passes over), without the first of each
    row where the model shifts them; real-valued labels count one by one. Several labels, labels that are no tensor,
    and losses that are means over sequences (CTC) do not tell.
    """
    if not isinstance(inputs, Mapping) or len(label_names) != 1 or hasattr(config, "ctc_loss_reduction"):
        return None
    if isinstance(inputs.get("shift_labels"), Tensor):
        labels, shifts = inputs["shift_labels"], False
    else:
        labels = inputs.get(label_names[0])
    if not isinstance(labels, Tensor):
        return None
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return labels.numel()
    ignored = getattr(config, "semantic_loss_ignore_index", PADDING)
    read = labels[..., 1:] if shifts and labels.ndim > 1 else labels
    return (read != ignored).sum()


class MeanLoss:
    """Means of batches, weighed by the targets of each; nothing is fetched from the device before the end."""

    def __init__(self) -> None:
        self._losses: list[Tensor] = []
        self._weights: list[Tensor | int] = []
        self._rows: list[int] = []

    def add(self, loss: Any, num_targets: Tensor | int, num_rows: int) -> None:
        """The mean loss of one batch (several values are averaged), over `num_targets` in `num_rows`."""
        self._losses.append(torch.as_tensor(loss).detach().float().mean())
        self._weights.append(num_targets)
        self._rows.append(num_rows)

    def table(self) -> NDArray[np.float64]:
        """One row for each batch: its mean loss, its targets, its rows."""
        losses = _fetch(self._losses)
        weights = _fetch(self._weights)
        return np.stack([losses, weights, np.array(self._rows, np.float64)], axis=1)


def _fetch(values: Sequence[Tensor | int]) -> NDArray[np.float64]:
    tensors = [value for value in values if isinstance(value, Tensor)]
    if len(tensors) == len(values) and tensors:
        return torch.stack(tensors).cpu().double().numpy()
    return np.array([float(value) for value in values], np.float64)


def mean_loss(table_N3: NDArray[np.float64]) -> float | None:
    """The loss over all targets in `MeanLoss.table`'s rows; None without batches, not a number if one batch's is not.

    Batches without a target say nothing (their mean is 0 / 0) and are left out.
    """
    if not len(table_N3):
        return None
    told_N3 = table_N3[table_N3[:, 1] > 0]
    if not len(told_N3):
        _log.warning("none of the evaluated batches has a target (all labels are -100): the loss is not a number")
        return float("nan")
    if lost := int((~np.isfinite(told_N3[:, 0])).sum()):
        _log.warning("%d of %d evaluated batches have a loss that is not a finite number", lost, len(told_N3))
    return float(np.dot(told_N3[:, 0], told_N3[:, 1]) / told_N3[:, 1].sum())


def row_losses(table_N3: NDArray[np.float64]) -> NDArray[np.float32]:
    """The mean loss of its batch for each row."""
    return np.repeat(table_N3[:, 0], table_N3[:, 2].astype(np.int64)).astype(np.float32)
