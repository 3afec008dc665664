import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instar.core import seeds


@given(st.integers(0, 2**40), st.text(max_size=20), st.integers(0, 10**9))
def test_names_give_seeds_and_other_names_give_others(seed: int, name: str, step: int) -> None:
    derived = seeds.derive(seed, name, step)
    assert derived == seeds.derive(seed, name, step)
    assert 0 <= derived < 2**63
    assert derived != seeds.derive(seed, name, step + 1)
    assert derived != seeds.derive(seed + 1, name, step)


def test_draws_are_uniform_and_independent_of_their_neighbours() -> None:
    sample, place = np.divmod(np.arange(200_000), 500)
    draws = seeds.uniform(7, sample, place)
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    expected = len(draws) / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-squared, 19 degrees, p = 0.001
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01
    assert np.array_equal(seeds.uniform(7, sample[1000:1100], place[1000:1100]), draws[1000:1100])
    assert len(np.unique(draws)) == len(draws)
