"""Every test: one thread, no network, no environment of the developer's, and nothing left behind."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # as the command does in its own process, and before any product
os.environ.pop("INSTAR_DEBUG", None)

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("any machine", deadline=None)  # how busy it is says nothing about the code
hypothesis.settings.load_profile("any machine")

# Set once by libraries on first use; not a test's doing.
_VOLATILE = ("PYTEST_CURRENT_TEST", "KMP_INIT_AT_FORK", "KMP_DUPLICATE_LIB_OK", "TORCHINDUCTOR_CACHE_DIR")
_GRACE = 300.0
"""Seconds for what is ending to end; a busy machine takes a while, and a test that left nothing waits for nothing."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first, whatever the order of the others: else one of them may run alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None and item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def _processor_as_at_the_start() -> None:
    """One thread, for on two cores the default number makes suites ten times slower; and the plain matmul library.

    Both last for a process, so that a test before this one may have changed them.
    """
    import torch

    torch.set_num_threads(1)
    torch.backends.mkldnn.matmul.fp32_precision = "none"


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """The environment, the working folder, threads and child processes are as they were."""
    environment, folder, threads = _environment(), Path.cwd(), set(threading.enumerate())
    children = _children()
    yield
    assert _environment() == environment, "the test changed the environment: use monkeypatch"
    assert Path.cwd() == folder, "the test changed the working folder: use monkeypatch"
    deadline = time.monotonic() + _GRACE
    while (left := _left(threads, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, f"the test left these running: {left}"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _VOLATILE}


def _left(threads: set[threading.Thread], children: set[str]) -> list[str]:
    """Threads that would keep the process alive, and processes, that were not there before."""
    alive = [thread.name for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    return alive + sorted(_children() - children)


def _children() -> set[str]:
    """Ids of this process's children, where the system tells (Linux)."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    return set(listed.read_text().split()) if listed.is_file() else set()
