import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.core.budget import UNITS, Budget


@given(st.integers(1, 10**12), st.sampled_from(UNITS))
def test_text_and_value_undo_each_other(amount: int, unit: str) -> None:
    budget = Budget(float(amount), unit)
    assert Budget.parse(str(budget)) == budget
    assert Budget.parse(f"{amount:_} {unit.removesuffix('s')}") == budget


@pytest.mark.parametrize("text", ["0 steps", "-1 steps", "3", "steps", "3 weeks", "1.5 steps", 3, None, "3  steps x"])
def test_what_is_no_amount_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="steps"):
        Budget.parse(text)


def test_half_an_epoch_is_an_amount() -> None:
    assert Budget.parse("1.5 epochs").amount == 1.5
