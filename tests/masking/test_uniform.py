import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instar.data import Batch
from instar.masking import Uniform
from tests.batches import packed

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=30)
RATES = st.floats(0.01, 0.99)


def places_by_sample(batch: Batch, positions: np.ndarray) -> dict[int, list[int]]:
    edges = np.asarray(batch.boundaries)
    return {
        int(sample): (positions[(positions >= low) & (positions < high)] - low).tolist()
        for sample, low, high in zip(batch.samples_D, edges[:-1], edges[1:], strict=True)
    }


@given(LENGTHS, RATES, st.integers(0, 2**62))
def test_each_row_gives_its_exact_share_and_never_a_special(lengths: list[int], rate: float, key: int) -> None:
    batch = packed(lengths)
    positions = Uniform(per="row").choose(batch, rate, key)
    assert (np.diff(positions) > 0).all()
    assert batch.maskable_T.numpy()[positions].all()
    maskable = [max(0, length - 2) for length in lengths]
    counts = [len(chosen) for chosen in places_by_sample(batch, positions).values()]
    assert all(abs(count - rate * size) < 1 for count, size in zip(counts, maskable, strict=True))


@given(LENGTHS, RATES, st.integers(0, 2**62))
def test_the_batch_gives_its_exact_share(lengths: list[int], rate: float, key: int) -> None:
    batch = packed(lengths)
    size = sum(max(0, length - 2) for length in lengths)
    count = len(Uniform(per="batch").choose(batch, rate, key))
    assert abs(count - rate * size) < 1


@given(st.lists(st.integers(8, 40), min_size=2, max_size=12), st.integers(0, 2**62), st.data())
def test_a_row_is_masked_alike_in_any_company(lengths: list[int], key: int, data: st.DataObject) -> None:
    batch = packed(lengths)
    chosen = sorted(data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1)))
    part = batch.select(chosen)
    whole = places_by_sample(batch, Uniform().choose(batch, 0.5, key))
    alone = places_by_sample(part, Uniform().choose(part, 0.5, key))
    assert alone == {sample: whole[sample] for sample in alone}


def test_the_share_is_right_on_average_where_rows_are_short() -> None:
    batch = packed([7] * 20_000)
    count = len(Uniform().choose(batch, 0.15, 3))
    assert abs(count / (5 * 20_000) - 0.15) < 0.005


def test_every_place_has_the_same_chance() -> None:
    batch = packed([12] * 20_000)
    positions = Uniform().choose(batch, 0.3, 5)
    counts = np.bincount(positions % 12, minlength=12)[1:-1]
    expected = counts.mean()
    assert ((counts - expected) ** 2 / expected).sum() < 27.9  # chi-squared, 9 degrees, p = 0.001


def test_what_has_nothing_to_mask_gives_no_place() -> None:
    assert len(Uniform().choose(packed([2, 1, 2]), 0.5, 0)) == 0
