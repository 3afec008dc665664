"""What a model's loss is a mean over: found by computing it again from the model's outputs, not from its class.

Shape letters: D documents, T tokens, V classes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instar.api.containers import PADDING

_EXACT, _HALF = 2e-5, 1e-2
"""How far two computations of one loss are apart, from logits in float32 or in halves."""


class Average(StrEnum):
    """What the loss of a batch is a mean over."""

    LABELS = "labels"
    """All labels that are not passed over."""
    SHIFTED = "shifted labels"
    """The same without the first of each row, which nothing predicts."""
    VALUES = "values"
    """All numbers in real-valued labels."""
    BATCH = "batch"
    """Something else: batches weigh alike, whatever their labels are."""


def averaged_over(loss: Tensor, outputs: Any, inputs: Any, ignored: int = PADDING) -> Average | None:
    """What this loss is a mean over; None where this batch cannot tell, since it has no targets or too few.

    Cross entropy of integer labels, squared errors and binary cross entropy of real ones are recognised from logits.
    Waits for the device.
    """
    labels = labels_of(inputs)
    if labels is None:
        return Average.BATCH
    value = loss.detach().float().mean().item()
    if not math.isfinite(value):
        return None
    if not labels.is_floating_point() and not bool((labels != ignored).any()):
        return Average.BATCH  # a loss without a target
    logits = _logits_of(outputs)
    if logits is None:
        return Average.BATCH
    with torch.no_grad():
        means = list(_means(logits.detach(), labels, ignored))
    tolerance = (_EXACT if logits.dtype.itemsize >= 4 else _HALF) * max(1.0, abs(value))
    agreeing = {average for average, mean in means if abs(mean - value) <= tolerance}
    if len(agreeing) > 1:
        return None
    return agreeing.pop() if agreeing else Average.BATCH


def labels_of(inputs: Any) -> Tensor | None:
    """The labels of a batch: those that are shifted already before the others; None where there is no tensor."""
    if not isinstance(inputs, Mapping) and not hasattr(inputs, "keys"):
        return None
    found = [inputs[name] for name in ("shift_labels", "labels") if name in inputs]
    return next((labels for labels in found if isinstance(labels, Tensor)), None)


def joined(batches: Sequence[Any], ignored: int) -> dict[str, Any] | None:
    """Batches as one, shorter rows filled up with padding that is no target; None for what cannot be joined."""
    first = batches[0]
    if not all(isinstance(batch, Mapping) and batch.keys() == first.keys() for batch in batches):
        return None
    found = {}
    for name in first:
        values = [batch[name] for batch in batches]
        if not all(isinstance(value, Tensor) and value.ndim for value in values):
            return None
        fill = ignored if "labels" in name and not values[0].is_floating_point() else 0
        rows = [row for value in values for row in value]
        if len({row.shape[1:] for row in rows}) > 1:
            return None
        found[name] = (
            nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill) if rows[0].ndim else torch.stack(rows)
        )
    return found


def with_a_target(inputs: Any) -> dict[str, Any]:
    """The batch with one label that is not passed over, so that a mean over its targets is a number."""
    changed = dict(inputs)
    for name in ("shift_labels", "labels"):
        if isinstance(changed.get(name), Tensor):
            labels = changed[name] = changed[name].clone()
            labels.view(-1)[-1:] = 0
    return changed


def ignored_label(config: Any) -> int:
    """The label that a model's loss passes over."""
    return int(getattr(config, "semantic_loss_ignore_index", PADDING))


def _logits_of(outputs: Any) -> Tensor | None:
    if isinstance(outputs, Mapping):
        named = [value for name, value in outputs.items() if "logits" in name]
    else:
        named = list(outputs[1:2]) if isinstance(outputs, tuple | list) else []
    return next((value for value in named if isinstance(value, Tensor) and value.is_floating_point()), None)


def _means(logits: Tensor, labels: Tensor, ignored: int) -> Iterator[tuple[Average, float]]:
    """The mean of each kind that these shapes allow."""
    labels = labels.to(logits.device)
    if labels.is_floating_point():
        if logits.numel() == labels.numel():
            logits, labels = logits.float().flatten(), labels.float().flatten()
            yield Average.VALUES, F.mse_loss(logits, labels).item()
            yield Average.VALUES, F.binary_cross_entropy_with_logits(logits, labels).item()
        return
    for average, aligned in _aligned(logits, labels):
        total, count = 0.0, 0
        for row_TV, row_T in aligned:  # row by row: all logits in float32 may be more than memory holds
            total += F.cross_entropy(row_TV.float(), row_T, ignore_index=ignored, reduction="sum").item()
            count += int((row_T != ignored).sum())
        if count:
            yield average, total / count


def _aligned(logits: Tensor, labels: Tensor) -> Iterator[tuple[Average, list[tuple[Tensor, Tensor]]]]:
    """Logits and labels as rows of (T, V) and (T,), in each way that they may belong together."""
    if logits.ndim == 4 and labels.ndim == 3:  # classes of pixels, at a coarser resolution
        size = (int(labels.shape[1]), int(labels.shape[2]))
        logits = F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
        logits, labels = logits.movedim(1, -1).flatten(1, 2), labels.flatten(1)
    if logits.ndim == 2 and labels.numel() == len(logits):
        yield Average.LABELS, [(logits, labels.flatten())]
        return
    if logits.ndim != 3 or labels.ndim != 2 or len(logits) != len(labels):
        return
    extra = logits.shape[1] - labels.shape[1]
    if extra > 0:  # tokens that the model puts before the text: the first label is predicted, too
        yield Average.LABELS, list(zip(logits[:, extra - 1 : -1], labels, strict=True))
        logits = logits[:, extra:]
    elif extra == 0:
        yield Average.LABELS, list(zip(logits, labels, strict=True))
    if extra >= 0 and labels.shape[1] > 1:
        yield Average.SHIFTED, list(zip(logits[:, :-1], labels[:, 1:], strict=True))
