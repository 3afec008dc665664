"""Learning rates before training: in a terminal, as a picture, as a table."""

from pathlib import Path

import pytest

from instar.core.errors import UsageError
from instar.report.rates import draw_rates
from instar.report.reading import Series
from instar.report.sketch import sketch


def test_a_sketch_has_the_highest_value_at_the_top_and_marks_the_joint() -> None:
    lines = sketch([0.0, 1.0, 2.0, 3.0, 4.0], joint=2, height=2)
    assert lines == ["4  ▂▄█"[:2] + "   ▄█", "0  ▄███", "    ^ joint"]
    assert sketch([]) == []
    assert all(len(line) <= 12 for line in sketch([1.0] * 1000, width=10))
    assert sketch([0.0, 0.0], height=2) == ["0", "0"]


def test_a_picture_has_both_runs(tmp_path: Path) -> None:
    before, after = Series((-2, -1), (2.0, 1.0)), Series((0, 1), (1.0, 1.5))
    draw_rates(tmp_path / "rates.csv", before, after)
    rows = (tmp_path / "rates.csv").read_text().splitlines()
    assert rows == ["part,step,lr", "before,-2,2.0", "before,-1,1.0", "run,0,1.0", "run,1,1.5"]
    for name, start in (("rates.png", b"\x89PNG"), ("rates.svg", b"<?xml")):
        draw_rates(tmp_path / name, before, after)
        assert (tmp_path / name).read_bytes().startswith(start)
    with pytest.raises(UsageError, match=r"ends in \.png"):
        draw_rates(tmp_path / "rates.txt", before, after)
