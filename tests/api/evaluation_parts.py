"""Small models and data sets for tests of evaluation."""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Line(nn.Module):
    """a x + b, with the mean squared error as its loss."""

    main_input_name = "input_x"

    def __init__(self, *, a: float = 1.5, b: float = 2.5, num_outputs: int = 1) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(float(a)))
        self.b = nn.Parameter(torch.tensor(float(b)))
        self.num_outputs = num_outputs

    def forward(self, input_x: Any, labels: Any = None, **_: Any) -> Any:
        y = input_x * self.a + self.b
        outputs = (y,) * self.num_outputs
        return outputs if labels is None else (F.mse_loss(y, labels), *outputs)


class Words(nn.Module):
    """One logit row for each token, with the mean cross entropy over labels that are not -100."""

    def __init__(self, vocabulary: int = 11) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, vocabulary)

    def forward(self, input_ids: Any, labels: Any = None) -> Any:
        logits = self.table(input_ids)
        found = {"logits": logits, "hidden_states": (logits + 1, [logits + 2])}
        if labels is not None:
            found["loss"] = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return found


class LineData:
    def __init__(self, length: int = 64, names: tuple[str, ...] = ("labels",)) -> None:
        numbers = np.random.default_rng(3)
        self.x = numbers.normal(size=length).astype(np.float32)
        self.names = names
        self.y = (2 * self.x + 3 + numbers.normal(scale=0.1, size=length)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_x": self.x[index], **dict.fromkeys(self.names, self.y[index])}


class WordData:
    """Rows of one length or of many, in which some labels are -100."""

    def __init__(self, length: int = 53, *, ragged: bool = False) -> None:
        numbers = np.random.default_rng(5)
        sizes = numbers.integers(2, 9, length) if ragged else np.full(length, 8)
        self.ids = [numbers.integers(1, 11, size) for size in sizes]
        self.labels = [np.where(numbers.random(len(row)) < 0.6, -100, row) for row in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.ids[index], "labels": self.labels[index]}


def pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch as long as its longest row: identities end in 0, labels in -100."""
    width = max(len(row["input_ids"]) for row in rows)

    def column(name: str, filling: int) -> torch.Tensor:
        return torch.tensor(
            np.array([np.pad(row[name], (0, width - len(row[name])), constant_values=filling) for row in rows])
        )

    return {"input_ids": column("input_ids", 0), "labels": column("labels", -100)}
