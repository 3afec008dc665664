"""Streams, the permutation behind them, and preparing ahead."""

import threading
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import ConfigError
from instar.data.batch import Batch
from instar.data.permutation import permute
from instar.data.prefetch import Prefetch
from instar.data.stream import Stream


class Numbers:
    """Samples of lengths 1 to 9 whose tokens are their number; of any size, holding nothing."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def lengths(self, index_N: np.ndarray) -> np.ndarray:
        return index_N * 7919 % 9 + 1

    def gather(self, index_D: np.ndarray, epochs_D: np.ndarray) -> Batch:
        lengths = self.lengths(index_D)
        ids = torch.from_numpy(np.repeat(index_D, lengths))
        return Batch(ids_T=ids, lengths=tuple(lengths.tolist()), samples_D=index_D, epochs_D=epochs_D)


@given(st.integers(1, 300), st.integers(0, 2**63 - 1))
@settings(deadline=None)
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size, key).tolist()) == list(range(size))


@given(st.integers(1, 2**62), st.integers(0, 2**63 - 1), st.data())
@settings(deadline=None)
def test_permute_takes_any_size(size: int, key: int, data: st.DataObject) -> None:
    index = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20, unique=True)))
    places = permute(index, size, key)
    assert len(set(places.tolist())) == len(index)
    assert (places >= 0).all()
    assert (places < size).all()
    assert permute(index[:1], size, key)[0] == places[0]


def test_permute_shuffles() -> None:
    size = 5000
    places = permute(np.arange(size), size, 1)
    assert abs(np.corrcoef(np.arange(size), places)[0, 1]) < 0.05
    assert (np.diff(places) == 1).mean() < 0.005
    assert (places == permute(np.arange(size), size, 2)).mean() < 0.005
    orders = Counter(tuple(permute(np.arange(3), 3, key).tolist()) for key in range(600))
    assert len(orders) == 6
    assert min(orders.values()) > 60


OPTIONS = st.fixed_dictionaries({"batch_tokens": st.integers(1, 60)}) | st.fixed_dictionaries(
    {"batch_samples": st.integers(1, 20)}
)


@given(size=st.integers(1, 40), seed=st.integers(0, 9), options=OPTIONS, limit=st.integers(1, 130))
@settings(deadline=None)
def test_every_epoch_holds_every_sample(size: int, seed: int, options: dict[str, int], limit: int) -> None:
    steps = list(Stream(Numbers(size), seed=seed, max_samples=limit, **options).steps())
    seen = [pair for step in steps for pair in zip(step.epochs_D.tolist(), step.samples_D.tolist(), strict=True)]
    assert len(seen) == len(set(seen)) == limit
    for epoch in range(limit // size):
        assert sorted(sample for at, sample in seen if at == epoch) == list(range(size))
    for step in steps:
        assert list(step.lengths) == sorted(step.lengths, reverse=True)
        assert len(step) == 1 or step.num_tokens <= options.get("batch_tokens", 10**9)
        assert len(step) <= options.get("batch_samples", 10**9)


@given(size=st.integers(1, 40), seed=st.integers(0, 9), options=OPTIONS, at=st.integers(0, 30))
@settings(deadline=None)
def test_resuming_gives_the_same_steps(size: int, seed: int, options: dict[str, int], at: int) -> None:
    stream = Stream(Numbers(size), seed=seed, **options)
    steps = list(islice(stream.steps(), at + 5))
    start = sum(len(step) for step in steps[:at])
    for wanted, step in zip(steps[at:], stream.steps(start), strict=False):
        assert wanted.samples_D.tolist() == step.samples_D.tolist()
        assert wanted.epochs_D.tolist() == step.epochs_D.tolist()
        assert torch.equal(wanted.ids_T, step.ids_T)


def test_a_token_budget_is_used_up() -> None:
    """The next sample would not have fitted."""
    stream = Stream(Numbers(1000), seed=0, batch_tokens=50)
    position = 0
    for step in islice(stream.steps(), 300):
        position += len(step)
        following, _ = stream.order(position, position + 1)
        assert step.num_tokens + Numbers(1000).lengths(following)[0] > 50


def test_a_billion_samples_cost_no_memory() -> None:
    import tracemalloc

    stream = Stream(Numbers(10**9), seed=0, batch_tokens=4096)
    tracemalloc.start()
    steps = list(islice(stream.steps(10**9 - 500), 3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {0, 1} == {epoch for step in steps for epoch in step.epochs_D.tolist()}
    assert peak < 4 << 20


def test_bad_streams() -> None:
    for options in ({}, {"batch_tokens": 1, "batch_samples": 1}, {"batch_tokens": 0}, {"batch_samples": -1}):
        with pytest.raises(ConfigError):
            Stream(Numbers(5), seed=0, **options)
    with pytest.raises(ConfigError, match="no samples to train on"):
        Stream(Numbers(0), seed=0, batch_samples=1)
    with pytest.raises(ConfigError, match="budget"):
        Stream(Numbers(5), seed=0, batch_samples=1, max_samples=0)


@pytest.mark.parametrize("ahead", [0, 1, 3, 50])
def test_preparing_ahead_changes_nothing(ahead: int) -> None:
    with Prefetch(iter(range(20)), ahead) as items:
        assert list(items) == list(range(20))
        assert list(items) == []


@pytest.mark.parametrize("ahead", [0, 2])
def test_errors_come_out_in_their_place(ahead: int) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with Prefetch(broken(), ahead) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)


@pytest.mark.parametrize("ahead", [0, 2])
def test_closing_ends_the_thread_and_the_iterator(ahead: int) -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with Prefetch(endless(), ahead) as items:
        assert next(items) == 1
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "instar-prefetch"]


def test_it_prepares_that_many_and_no_more() -> None:
    made = []
    enough = threading.Event()

    def counted() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 3:
                enough.set()
            yield number

    with Prefetch(counted(), 3):
        assert enough.wait(100)
    assert len(made) <= 5
