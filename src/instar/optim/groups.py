"""Which parameters decay, and which are hidden matrices."""

import re
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


_ENDS = re.compile(
    r"embed|bias|(^|\.)(wte|wpe|shared|lm_head|head|classifier|score|qa_outputs|vocab_projector)\.|(^|\.)decoder\.weight$"
)


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """True for a matrix inside the network: neither an embedding nor a head, as its name has it."""
    return parameter.ndim == 2 and _ENDS.search(name) is None


def muon_groups(named: Iterable[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """The decay groups, the first of which is split in two: hidden matrices (`orthogonal`), and the other matrices."""
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    hidden = {name for name, parameter in trained if is_hidden_matrix(name, parameter)}
    inside = decay_groups(((name, parameter) for name, parameter in trained if name in hidden), weight_decay)
    outside = decay_groups(((name, parameter) for name, parameter in trained if name not in hidden), weight_decay)
    return [{**group, "orthogonal": True} for group in inside] + [{**group, "orthogonal": False} for group in outside]
