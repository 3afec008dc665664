"""The one value that flows from data to task to network: documents end to end, no padding.

Shape letters: T tokens, D documents, M positions where something is predicted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Documents of one optimizer step, or of a micro-batch of it, in one packed row.

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
    prompts_D: Tensor | None = None
    """Tokens at the start of each document that are given and not learnt, int64; None: there are none."""
    maskable_T: Tensor | None = None
    """False where a token may never be masked (special tokens); None: not known."""
    characters_T: Tensor | None = None
    """Characters of the text that each token stands for, int64; None: not asked for."""
    starts_T: Tensor | None = None
    """Index in the whole corpus of the first character of each token, int64; None: not asked for."""
    lower_T: Tensor | None = None
    """True where a token holds a lower-case letter; None: not asked for, or the source keeps none."""
    types_T: Tensor | None = None
    """Segment of each token, int64, for models that distinguish the parts of a document; None: one part."""
    read_M: Tensor | None = None
    """Positions in the packed row whose hidden states are read, int64, ascending."""
    target_M: Tensor | None = None
    """What is to be predicted at each position."""
    weight_M: Tensor | None = None
    """Weight of each position in the loss, float32, 1 on average over the step; None: all are alike."""

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_tokens(self) -> int:
        """Real tokens; there are no others."""
        return int(self.ids_T.shape[0])

    @property
    def num_targets(self) -> int:
        """Positions that the loss counts; known on the host, so nothing waits for the device."""
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

    def renumbered(self, samples_D: NDArray[np.int64]) -> "Batch":
        """The same batch with other sample numbers."""
        return replace(self, samples_D=samples_D)

    @classmethod
    def joined(cls, batches: Sequence["Batch"]) -> "Batch":
        """Batches of one kind that no task has prepared yet, end to end."""
        if len(batches) == 1:
            return batches[0]
        tensors = {
            name: torch.cat([getattr(batch, name) for batch in batches])
            for name, value in vars(batches[0]).items()
            if isinstance(value, Tensor)
        }
        return replace(
            batches[0],
            lengths=tuple(length for batch in batches for length in batch.lengths),
            samples_D=np.concatenate([batch.samples_D for batch in batches]),
            epochs_D=np.concatenate([batch.epochs_D for batch in batches]),
            **tensors,
        )

    def reading(self, read_M: Tensor) -> "Batch":
        """The same batch, read at these positions."""
        return replace(self, read_M=read_M)

    def select(self, documents: Sequence[int] | range) -> "Batch":
        """Some documents, given in ascending order, as a batch of their own (on the host)."""
        boundaries = self.boundaries
        kept_T = np.concatenate([np.arange(boundaries[d], boundaries[d + 1]) for d in documents])
        tokens_T = torch.from_numpy(kept_T)
        rows_D = torch.tensor(list(documents), dtype=torch.int64)
        part: dict[str, Any] = {
            "lengths": tuple(self.lengths[d] for d in documents),
            "samples_D": self.samples_D[list(documents)],
            "epochs_D": self.epochs_D[list(documents)],
            "labels_D": None if self.labels_D is None else self.labels_D[rows_D],
            "prompts_D": None if self.prompts_D is None else self.prompts_D[rows_D],
        }
        for name in ("ids_T", "maskable_T", "characters_T", "starts_T", "lower_T", "types_T"):
            tensor = getattr(self, name)
            part[name] = None if tensor is None else tensor[tokens_T]
        if self.read_M is not None and self.target_M is not None:
            new_index_T = torch.full((self.num_tokens,), -1, dtype=torch.int64)
            new_index_T[tokens_T] = torch.arange(len(tokens_T))
            index_M = new_index_T[self.read_M]
            part["read_M"], part["target_M"] = index_M[index_M >= 0], self.target_M[index_M >= 0]
            part["weight_M"] = None if self.weight_M is None else self.weight_M[index_M >= 0]
        return self._with(part)

    def _with(self, changed: dict[str, Any]) -> "Batch":
        return replace(self, **changed)

    def split(self, max_tokens: int | None) -> Iterator["Batch"]:
        """Micro-batches of at most `max_tokens` tokens (a longer document comes alone), in order."""
        if max_tokens is None or self.num_tokens <= max_tokens:
            yield self
            return
        first = held = 0
        for last, length in enumerate(self.lengths):
            if last > first and held + length > max_tokens:
                yield self.select(range(first, last))
                first, held = last, 0
            held += length
        yield self.select(range(first, len(self)))
