"""The one value that flows from data to task to network: documents end to end, no padding.

Shape letters: T tokens, D documents, M places where something is predicted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Documents of one optimizer step, or of a piece of it, in one packed row.

    `lengths` stays on the host (kernels that loop over documents need it there).
    `read_M` and `target_M` are empty until a task has prepared the batch.
    """

    ids_T: Tensor
    """Token ids, int64."""
    lengths: tuple[int, ...]
    """Tokens of each document; they add up to T."""
    samples_D: NDArray[np.int64]
    """Number of each document's sample in its data set, for naming randomness and for messages."""
    epochs_D: NDArray[np.int64]
    """Pass over the data that each document belongs to."""
    labels_D: Tensor | None = None
    """Label of each document: int64 class, float32 value, or float32 (D, classes)."""
    maskable_T: Tensor | None = None
    """False where a token may never be hidden (specials); None: nothing was said."""
    read_M: Tensor | None = None
    """Places in the packed row whose hidden states are read, int64, ascending."""
    target_M: Tensor | None = None
    """What is to be predicted at each place."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """Real tokens; there are no others."""
        return int(self.ids_T.shape[0])

    @property
    def num_targets(self) -> int:
        """Places that the loss counts; known on the host, so nothing waits for the device."""
        return 0 if self.target_M is None else int(self.target_M.shape[0])

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Start of each document in the row, and the end of the last."""
        return (0, *accumulate(self.lengths))

    def positions_T(self) -> Tensor:
        """Position of each token within its own document, int64."""
        starts_D = np.asarray(self.boundaries[:-1], dtype=np.int64)
        positions_T = np.arange(sum(self.lengths)) - np.repeat(starts_D, self.lengths)
        return torch.from_numpy(positions_T).to(self.ids_T.device)

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`; the copy does not wait."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return self._with({name: value.to(device, non_blocking=True) for name, value in tensors.items()})

    def documents(self, first: int, last: int) -> "Batch":
        """The documents `first` to `last` (not included) as a batch of their own."""
        boundaries = self.boundaries
        tokens = slice(boundaries[first], boundaries[last])
        part = {
            "ids_T": self.ids_T[tokens],
            "lengths": self.lengths[first:last],
            "samples_D": self.samples_D[first:last],
            "epochs_D": self.epochs_D[first:last],
            "labels_D": None if self.labels_D is None else self.labels_D[first:last],
            "maskable_T": None if self.maskable_T is None else self.maskable_T[tokens],
        }
        if self.read_M is not None and self.target_M is not None:
            edges = torch.tensor([tokens.start, tokens.stop], device=self.read_M.device)
            low, high = torch.searchsorted(self.read_M, edges).tolist()
            part["read_M"] = self.read_M[low:high] - tokens.start
            part["target_M"] = self.target_M[low:high]
        return self._with(part)

    def _with(self, changed: dict[str, Any]) -> "Batch":
        return replace(self, **changed)

    def split(self, max_tokens: int | None) -> Iterator["Batch"]:
        """Pieces of at most `max_tokens` tokens (a longer document comes alone), in order."""
        if max_tokens is None or self.num_tokens <= max_tokens:
            yield self
            return
        first = held = 0
        for last, length in enumerate(self.lengths):
            if last > first and held + length > max_tokens:
                yield self.documents(first, last)
                first, held = last, 0
            held += length
        yield self.documents(first, len(self))
