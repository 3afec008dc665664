"""The state of every generator that a user's code may draw from."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def random_states(*, all_devices: bool) -> dict[str, Any]:
    """Python's, NumPy's and torch's; with a GPU also its own, or those of all GPUs. Plain values and tensors."""
    kind, key, *rest = np.random.get_state(legacy=True)
    states = {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(key).tolist(), *rest),
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all() if all_devices else torch.cuda.get_rng_state()
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Put every generator where it was; those of devices that are not here are passed over."""
    version, internal, following = states["python"]
    random.setstate((version, tuple(internal), following))
    kind, key, *rest = states["numpy"]
    np.random.set_state((str(kind), np.asarray(key, dtype=np.uint32), *rest))
    torch.random.set_rng_state(states["cpu"])
    if torch.cuda.is_available() and "cuda" in states:
        cuda = states["cuda"]
        if isinstance(cuda, list | tuple):
            torch.cuda.set_rng_state_all(list(cuda))
        else:
            torch.cuda.set_rng_state(cuda)
