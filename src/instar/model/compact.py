"""An embedding that trains only the rows that occur, for networks whose head does not use the table.

Rows that never occur get no gradient, so without weight decay leaving them out changes nothing; it saves the
optimizer's work on them. Shape letters: V vocabulary, U ids in use, H width.
"""

from collections.abc import Iterator, Mapping
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
            embedding.weight.copy_(self.whole_table(self.weight))
        return embedding

    def whole_table(self, rows_UH: Tensor) -> Tensor:
        """(V, H) on the CPU: these rows for the ids in use, the table kept aside for the others."""
        (embedding,) = self._aside
        table_VH = embedding.weight.detach().cpu().clone()
        table_VH[self.get_buffer("used_U").cpu()] = rows_UH.detach().cpu()
        return table_VH

    def used_rows(self, table_VH: Tensor) -> Tensor:
        """(U, H) the rows in use of a table of the full size."""
        return table_VH[self.get_buffer("used_U").to(table_VH.device)]


def whole_tables(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors named as the network's parameters, with full tables in place of the rows in use."""
    return dict(weights) | {
        name: compact.whole_table(weights[name]) for name, compact in _compact_tables(network) if name in weights
    }


def used_tables(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `whole_tables` was given; a table of another size is left as it is."""
    cut = {
        name: compact.used_rows(weights[name])
        for name, compact in _compact_tables(network)
        if name in weights and len(weights[name]) == len(compact.get_buffer("rows_V"))
    }
    return dict(weights) | cut


def _compact_tables(network: nn.Module) -> Iterator[tuple[str, CompactEmbedding]]:
    for name, module in network.named_modules():
        if isinstance(module, CompactEmbedding):
            yield f"{name}.weight", module


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
