"""Which parameters decay."""

from collections.abc import Iterable
from typing import Any

from torch import nn


def decay_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Two optimizer groups: matrices decay; biases and norm gains (one dimension) do not.

    Each group keeps its parameters' names under `names`, in the same order.
    """
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups = []
    for decays in (True, False):
        chosen = [(name, parameter) for name, parameter in trained if (parameter.ndim >= 2) is decays]
        if chosen:
            groups.append(
                {
                    "params": [parameter for _, parameter in chosen],
                    "names": [name for name, _ in chosen],
                    "weight_decay": weight_decay if decays else 0.0,
                }
            )
    return groups
