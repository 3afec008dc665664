"""Training figures of one's own, from the passes that train. Shape letters: M targets, V classes or vocabulary."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from instar.api.containers import PADDING
from instar.objective.figures import OwnMetric
from instar.trainer.runtime import Runtime

_TAKEN = {"loss", "grad_norm", "learning_rate", "epoch", "non_finite_steps", "num_input_tokens_seen"}


def logits_of(outputs: Any) -> Any:
    """The logits of a model's outputs: named so, or what stands after the loss; None where there are none."""
    if isinstance(outputs, Mapping):
        return outputs.get("logits")
    return outputs[1] if isinstance(outputs, tuple) and len(outputs) > 1 else getattr(outputs, "logits", None)


class TrainingMetrics:
    """Sums and counts of functions of (logits, targets), over micro-batches, steps and ranks; divided once a log line.

    The logits are those of the positions that count, (M, V), and the targets theirs, (M,): tokens whose label is not
    -100, for a causal model each beside the token after it. They change no loss and no gradient.
    """

    def __init__(self, functions: Mapping[str, OwnMetric]) -> None:
        """ValueError for a name that a log line has already."""
        taken = sorted(_TAKEN & functions.keys())
        if taken:
            raise ValueError(f"metrics: {', '.join(taken)}: a log line has this already; choose another name")
        self._functions = dict(functions)
        self._sums: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, logits_MV: Tensor, target_M: Tensor) -> None:
        """Add what a micro-batch gives; nothing waits for the device."""
        for name, function in self._functions.items():
            both = function(logits_MV.detach(), target_M)
            sums = torch.stack([torch.as_tensor(part, device=target_M.device).double() for part in both])
            self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def add_padded(self, logits: Any, labels: Any, *, shifts: bool) -> None:
        """The same from padded outputs and labels, of which those that count are taken."""
        if not isinstance(logits, Tensor) or not isinstance(labels, Tensor):
            return
        if shifts and labels.ndim > 1:
            logits, labels = logits[..., :-1, :], labels[..., 1:]
        if not labels.is_floating_point() and labels.shape == logits.shape[:-1]:
            counts = labels != PADDING
            logits, labels = logits[counts], labels[counts]
        self.add(logits, labels)

    def record(self, runtime: Runtime) -> dict[str, float]:
        """The figures since the line before, over all ranks; then from zero."""
        found = {}
        for name in self._functions:
            sums = self._sums.pop(name, None)
            zero = torch.zeros(2, dtype=torch.float64, device=runtime.device)
            total, count = runtime.sum(zero if sums is None else sums.to(runtime.device)).tolist()
            found[name] = total / count if count else float("nan")
        return found
