"""Every test: one thread, no network, no environment of the developer's."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """On two cores the default number of threads makes suites ten times slower."""
    import torch

    torch.set_num_threads(1)
