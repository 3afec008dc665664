"""How much memory a network needs, estimated before any is taken."""

import copy
import os
from pathlib import Path
from typing import Any

import torch

from instar.core.errors import ConfigError
from instar.model.quiet import quiet

_LAYERS = 16
"""Layers that are made, without memory, to know the size of a deeper network."""
_TRAINED_BYTES = 16
"""Of a trained number in float32: its weight, gradient and two moments."""
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def num_parameters(kind: Any, hf_config: Any) -> int:
    """Numbers of a network of class `kind`, none of which is made; layers beyond some count like those before them."""
    layers = int(getattr(hf_config, "num_hidden_layers", 0) or 0)
    if layers <= 2 * _LAYERS:
        return _counted(kind, hf_config)
    few, more = (_counted(kind, _with_layers(hf_config, number)) for number in (_LAYERS, 2 * _LAYERS))
    return few + (more - few) * (layers - _LAYERS) // _LAYERS


def _with_layers(hf_config: Any, number: int) -> Any:
    config = copy.copy(hf_config)
    config.num_hidden_layers = number
    return config


def _counted(kind: Any, hf_config: Any) -> int:
    with quiet(), torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(hf_config).parameters())


def must_be_trainable_here(kind: Any, hf_config: Any) -> None:
    """ConfigError for a new network that this machine's memory cannot hold while it is trained on the CPU."""
    numbers = num_parameters(kind, hf_config)
    needed = numbers * (4 if torch.cuda.is_available() else _TRAINED_BYTES)
    memory = total_memory()
    if memory is not None and needed > memory:
        raise ConfigError(
            [
                f"model: {numbers:,} parameters need {needed / 1e9:,.1f} GB of memory with gradients and moments; "
                f"this machine has {memory / 1e9:,.1f} GB. Lower model.num_layers or model.hidden_size"
            ]
        )


def total_memory() -> int | None:
    """Bytes that this process may use at most: the machine's, or its control group's where that is less."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None
    return min([machine, *(limit for path in _LIMITS if (limit := _limit(Path(path))) is not None)])


def _limit(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
