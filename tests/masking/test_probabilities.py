"""StoreOptions add up to the budget, keep their bounds, and are what tokens are masked by."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.masking import Adaptive
from instar.masking.weighted import Bounds, probabilities, systematic, water_fill
from tests.batches import packed
from tests.masking.informed import RATES, informed, located


@given(
    st.lists(st.lists(st.one_of(st.just(0.0), st.floats(0, 1e6)), min_size=1, max_size=30), min_size=1, max_size=6),
    RATES,
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_chances_add_up_to_the_budget_and_keep_their_bounds(
    rows: list[list[float]], rate: float, floor: float, ceiling: float, uniform: float
) -> None:
    weight = np.concatenate([np.array(row) for row in rows])
    starts = np.cumsum([0, *[len(row) for row in rows[:-1]]])
    found = probabilities(weight, starts, rate, Bounds(floor=floor, ceiling=ceiling, uniform=uniform))
    sums = np.add.reduceat(found, starts)
    np.testing.assert_allclose(sums, [rate * len(row) for row in rows], rtol=1e-7)
    assert (found >= min(floor, rate) - 1e-9).all()
    assert (found <= max(ceiling, rate) + 1e-9).all()
    for row, first in zip(rows, starts, strict=True):
        order = np.argsort(row, kind="stable")
        assert (np.diff(found[first + order]) >= -1e-9).all(), "a heavier place has no smaller probability"


def test_water_filling_is_proportional_where_nothing_is_full() -> None:
    filled = water_fill(np.array([1.0, 2.0, 1.0, 9.0]), np.array([0, 2]), np.array([0.3, 1.5]), 1.0)
    np.testing.assert_allclose(filled, [0.1, 0.2, 0.5, 1.0])


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0, 0.999))
def test_systematic_sampling_takes_as_many_as_the_chances_add_up_to(values: list[float], offset: float) -> None:
    chosen = systematic(np.array(values), np.array([0]), np.array([offset]))
    assert chosen.sum() in (int(np.floor(sum(values) + offset - 1e-9)), int(np.floor(sum(values) + offset + 1e-9)))


def test_places_are_hidden_with_exactly_their_chances() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(60) ** 3
    batch = located(packed([62]))
    policy = informed(Adaptive(floor=0.05, uniform=0.0), np.concatenate([[0], values, [0]]))
    counts = np.zeros(62)
    rounds = 4000
    for key in range(rounds):
        counts[policy.choose(batch, 0.3, key)] += 1
    expected = probabilities(values, np.array([0]), 0.3, Bounds(floor=0.05))
    assert counts[[0, 61]].tolist() == [0, 0]
    deviation = (counts[1:-1] / rounds - expected) / np.sqrt(expected * (1 - expected) / rounds + 1e-12)
    assert np.abs(deviation[expected < 0.999]).max() < 4


def test_equal_places_are_hidden_at_uneven_distances() -> None:
    """Systematic sampling in the order of the text would mask every fifth token, like a comb."""
    batch = located(packed([1002]))
    positions = informed(Adaptive(), np.ones(1002)).choose(batch, 0.2, 1)
    assert len(positions) == 200
    assert len(np.unique(np.diff(positions))) > 10
