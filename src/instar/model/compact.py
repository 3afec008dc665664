"""An embedding that trains only the rows that occur, for networks whose head does not use the table.

Rows that never occur get no gradient, so without weight decay leaving them out changes nothing; it saves the
optimizer's work on them. Shape letters: V vocabulary, U ids in use, H width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from instar.core.errors import DataError


class CompactEmbedding(nn.Embedding):
    """The rows of `whole` that `used_U` names; takes the same ids, refuses others with DataError."""

    def __init__(self, whole: nn.Embedding, used_U: Tensor) -> None:
        """Copy the rows; `whole` is kept aside and is not trained."""
        padding = whole.padding_idx
        if padding is not None:
            used_U = torch.cat([used_U, used_U.new_tensor([padding])])
        used_U = used_U.unique()
        super().__init__(len(used_U), whole.embedding_dim, device=whole.weight.device, dtype=whole.weight.dtype)
        self.padding_idx = None if padding is None else int((used_U == padding).nonzero())
        rows_V = torch.full((whole.num_embeddings,), -1, dtype=torch.int64)
        rows_V[used_U] = torch.arange(len(used_U))
        self.register_buffer("rows_V", rows_V, persistent=False)
        self.register_buffer("used_U", used_U, persistent=False)
        self._aside = (whole,)  # a tuple hides it from torch: no parameter, no entry in the state
        with torch.no_grad():
            self.weight.copy_(whole.weight[used_U])

    def forward(self, input: Tensor) -> Tensor:
        rows = self.get_buffer("rows_V")[input]
        if rows.device.type == "cpu" and bool((rows < 0).any()):
            raise DataError(f"token {int(input[rows < 0][0])} was not among the ids that the embedding was cut down to")
        return super().forward(rows)

    def whole(self) -> nn.Embedding:
        """The full table with the rows as they are now."""
        (embedding,) = self._aside
        with torch.no_grad():
            embedding.weight[self.get_buffer("used_U")] = self.weight
        return embedding


@contextmanager
def whole_embedding(model: Any) -> Iterator[None]:
    """Inside, the model has its full table again (for saving)."""
    compact = model.get_input_embeddings()
    if not isinstance(compact, CompactEmbedding):
        yield
        return
    model.set_input_embeddings(compact.whole())
    try:
        yield
    finally:
        model.set_input_embeddings(compact)
