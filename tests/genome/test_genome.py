"""Coordinates, tracks and annotation: what they give back, and what they refuse."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DataError, UsageError
from instar.genome.coordinates import Aliases, Interval, parse_region, read_aliases
from instar.genome.track import (
    Bounds,
    bedgraph_lines,
    empty_track,
    read_bigwig,
    read_values,
    runs,
    write_bigwig,
)

SIZES = {"chrI": 60, "chrII": 40}


def numbered(text: str) -> list[tuple[int, str]]:
    return list(enumerate(text.splitlines(), 1))


# ---- coordinates ----


def test_regions_are_counted_from_zero_and_end_before_their_end() -> None:
    assert parse_region("chrI:10-20", SIZES) == Interval("chrI", 10, 20)
    assert len(parse_region("chrI:10-20", SIZES)) == 10
    assert parse_region("II", SIZES) == Interval("chrII", 0, 40)
    assert parse_region("chrI:0-6_0", SIZES) == Interval("chrI", 0, 60)


RANGES = ["20-10", "5-5", "0-61", "a-b", ",-,", "1-", "-5", "1_-5", "1,0-20", "\u00b2-9", "1-" + "9" * 5000]


@pytest.mark.parametrize("text", [*(f"chrI:{each}" for each in RANGES), "", "chrI 1 2"])
def test_a_region_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="region"):
        parse_region(text, SIZES)


HLA = {"HLA-A*01:01": 100, "HLA-A*01:01:01:01": 200, "HLA-B:1-20": 50, "HLA-B": 60, "gi|9|ref|NC_1.1|": 30, "{x}": 5}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("HLA-A*01:01:01:01", Interval("HLA-A*01:01:01:01", 0, 200)),
        ("HLA-A*01:01:01:01:5-10", Interval("HLA-A*01:01:01:01", 5, 10)),
        ("HLA-A*01:01:5-10", Interval("HLA-A*01:01", 5, 10)),
        ("gi|9|ref|NC_1.1|:2-4", Interval("gi|9|ref|NC_1.1|", 2, 4)),
        ("{HLA-B}:1-20", Interval("HLA-B", 1, 20)),
        ("{HLA-B:1-20}", Interval("HLA-B:1-20", 0, 50)),
        ("HLA-B:1-20:1,0-20", None),
        ("HLA-B:1-21", Interval("HLA-B", 1, 21)),
        ("{x}", Interval("{x}", 0, 5)),
        ("{x}:1-2", Interval("{x}", 1, 2)),
    ],
)
def test_names_may_hold_colons_stars_and_pipes(text: str, meant: Interval | None) -> None:
    if meant is None:
        with pytest.raises(UsageError, match="expected a range"):
            parse_region(text, HLA)
    else:
        assert parse_region(text, HLA) == meant


def test_a_region_that_can_be_read_in_two_ways_is_refused() -> None:
    with pytest.raises(UsageError, match=r"write \{HLA-B:1-20\} for the first, or \{HLA-B\}:START-END for the second"):
        parse_region("HLA-B:1-20", HLA)


def test_an_unknown_chromosome_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no chromosome 'chrX'; there are: chrI, chrII"):
        parse_region("chrX:1-2", SIZES)


def test_chromosomes_have_many_names() -> None:
    rows = read_aliases(numbered("# a table\nNC_001133.9\tchrI\t1\nNC_009\tnowhere"), "alias.txt")
    aliases = Aliases(["chrI", "2", "chrM"], rows)
    found = [aliases.resolve(name) for name in ("chrI", "NC_001133.9", "1", "chr2", "2", "MT", "chrMT", "nowhere", "X")]
    assert found == ["chrI", "chrI", "chrI", "2", "2", "chrM", "chrM", None, None]
    with pytest.raises(DataError, match=r"alias.txt:1: wanted names separated by tabs"):
        list(read_aliases(numbered("one"), "alias.txt"))


def test_a_table_of_names_that_contradicts_itself() -> None:
    with pytest.raises(DataError, match="one row names two sequences of this genome: chrI, chrII"):
        Aliases(SIZES, [("chrI", "one", "chrII")])
    with pytest.raises(DataError, match="'one' is given to two sequences, chrI and chrII"):
        Aliases(SIZES, [("chrI", "one"), ("chrII", "one")])


def test_windows_tile_a_stretch() -> None:
    windows = list(Interval("c", 5, 20).windows(6))
    assert [(one.start, one.end) for one in windows] == [(5, 11), (11, 17), (17, 20)]
    assert [one.start for one in Interval("c", 0, 10).windows(4, 2)] == [0, 2, 4, 6, 8]


# ---- tracks ----

VALUES = st.lists(st.sampled_from([np.nan, 0.0, 0.25, 0.5, 1.0]), min_size=60, max_size=60)


@settings(max_examples=40, deadline=None)
@given(VALUES)
def test_a_track_comes_back_from_bedgraph_and_bigwig(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    track = empty_track(SIZES)
    track["chrI"][:] = values
    track["chrII"][5:9] = 0.75
    lines = list(bedgraph_lines(track))
    back = read_values(enumerate(lines, 1), "t.bedgraph", SIZES)
    path = tmp_path_factory.mktemp("t") / "t.bw"
    write_bigwig(path, track)
    wig = read_bigwig(path, SIZES)
    for name in SIZES:
        np.testing.assert_array_equal(back[name], track[name])
        np.testing.assert_array_equal(wig[name], track[name])
    known = np.array(values)[~np.isnan(values)]
    assert len(lines) - 1 <= len(known), "equal neighbours are one line"


def test_runs_are_merged_and_what_is_unknown_is_left_out() -> None:
    values = np.array([np.nan, 0.5, 0.5, 0.1, np.nan, np.nan, 0.0], dtype=np.float32)
    assert [(start, end) for start, end, _ in runs(values, 100)] == [(101, 103), (103, 104), (106, 107)]
    assert list(runs(np.zeros(0, np.float32))) == []


def test_the_first_base_of_a_minus_strand_is_its_last() -> None:
    """The original wrote end - i for base i of a minus strand, one too far."""
    from instar.genome.strand import mirrored

    assert [mirrored(base, base + 1, 10)[0] for base in range(3)] == [9, 8, 7]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("chrI\t5\t9\t0.5\nchrI\t0\t3\t0.5", r"t:2: chrI:0-3 is out of order after chrI:5-9"),
        ("chrI\t0\t9\t0.5\nchrI\t8\t12\t0.5", r"t:2: chrI:8-12 overlaps chrI:0-9"),
        (
            "chrX\t0\t9\t0.5",
            r"none of its values lies on this genome: it names chrX, and the sequences are chrI, chrII",
        ),
        ("chrI\t0\t9\t0.5\t+", "wanted CHROMOSOME START END VALUE"),
        ("chrI\t0\t1_0\t0.5", "wanted CHROMOSOME START END VALUE"),
        ("chrI\t0\t9\t0_5", "expected a number, got '0_5'"),
        ("chrI\t50\t61\t0.5", r"\[50, 61\) is not within the 60 bases"),
        ("chrI\t9\t9\t0.5", "is not within"),
        ("chrI\t0\t9\t1.5", "wanted a value from 0 to 1; got 1.5"),
        ("chrI\t0\t9\t-0.1", "wanted a value from 0 to 1"),
        ("chrI\t0\t9\tnan", "expected a number, got 'nan'"),
        ("chrI\t0\t9\t1e999", "wanted a value"),
        ("chrI\t0\tnine\t0.5", "wanted CHROMOSOME START END VALUE"),
        ("chrI\t0\t1\t0.5\nchrII\t0\t1\t0.5\nchrI\t5\t6\t0.5", "t:3: chrI came before"),
    ],
)
def test_a_bedgraph_with_a_fault(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_values(numbered(text), "t", SIZES, bounds=Bounds())


def test_all_faults_of_a_bedgraph_come_together() -> None:
    text = "track type=bedGraph\n" + "chrI\t0\t1\tx\n" * 30
    with pytest.raises(DataError) as raised:
        read_values(numbered(text), "t", SIZES)
    assert len(str(raised.value).splitlines()) == 21
    assert "and 10 more" in str(raised.value)


def test_bigwigs_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing is known"):
        write_bigwig(tmp_path / "none.bw", empty_track(SIZES))
    (tmp_path / "no.bw").write_bytes(b"no bigWig at all" * 9)
    with pytest.raises(DataError, match="is not a whole bigWig"):
        read_bigwig(tmp_path / "no.bw")
    track = empty_track({"chrI": 60, "chrX": 10})
    track["chrI"][0], track["chrX"][0] = 1, 1
    write_bigwig(tmp_path / "x.bw", track)
    told: list[str] = []
    assert read_bigwig(tmp_path / "x.bw", SIZES, log=told.append)["chrI"][0] == 1
    assert "1 values are skipped" in told[0]
    assert told[0].endswith("chrX")
    with pytest.raises(DataError, match="none of its values lies on this genome: it names chrI, chrX"):
        read_bigwig(tmp_path / "x.bw", {"chr9": 60})
    with pytest.raises(DataError, match="chrI has 60 bases; in this genome it has 61"):
        read_bigwig(tmp_path / "x.bw", {"chrI": 61, "chrX": 10})


def wiggle(text: str, tell: Callable[[str], None] = lambda _: None) -> dict[str, dict[int, float]]:
    """Value by base of what a text says, where it says something."""
    track = read_values(numbered(text), "t.wig", SIZES, log=tell)
    return {
        name: {int(at): float(values[at]) for at in np.flatnonzero(~np.isnan(values))} for name, values in track.items()
    }


def test_wiggle_counts_from_one_and_each_declaration_is_its_own() -> None:
    text = "browser position chrI:1-9\ntrack type=wiggle_0\n# a comment\n"
    text += "fixedStep chrom=chrI start=1 step=5 span=2\n0.5\n1\n\nfixedStep chrom=chrI start=20 step=1\n.25\n2e-1\n"
    text += "variableStep chrom=chrI span=3\n31 0.5\n41 1.\nvariableStep chrom=chrII\n40\t0.5\n"
    found = wiggle(text)
    wanted = {
        0: 0.5,
        1: 0.5,
        5: 1,
        6: 1,
        19: 0.25,
        20: pytest.approx(0.2),
        30: 0.5,
        31: 0.5,
        32: 0.5,
        40: 1,
        41: 1,
        42: 1,
    }
    assert found["chrI"] == wanted
    assert found["chrII"] == {39: 0.5}


def test_a_track_line_ends_a_declaration() -> None:
    text = "variableStep chrom=chrI\n5 1\ntrack type=bedGraph\nchrII\t5\t6\t0.5\n"
    assert wiggle(text) == {"chrI": {4: 1}, "chrII": {5: 0.5}}


def test_values_on_other_sequences_are_skipped_and_counted() -> None:
    told: list[str] = []
    text = "fixedStep chrom=chrIX start=1 step=1\n1\n1\n" + "track1 0 5 1\nfixedStep chrom=chrI start=1 step=1\n1\n"
    assert wiggle(text.replace("track1 0 5 1\n", ""), told.append)["chrI"] == {0: 1}
    assert told == [
        "t.wig: 2 values are skipped; they lie on sequences that are not in this genome, or not trained on: chrIX"
    ]
    with pytest.raises(DataError, match=r"t\.wig:4: wanted VALUE, as was declared; got 'track1 0 5 1'"):
        wiggle(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("fixedStep chrom=chrI start=0 step=1\n1", "t.wig:1: .* at least 1: wiggle counts from 1"),
        ("fixedStep chrom=chrI start=1 step=1 span=2\n1\n1", "t.wig:3: chrI:1-3 overlaps chrI:0-2"),
        ("fixedStep chrom=chrI start=60 step=1\n1\n1", r"t.wig:3: \[60, 61\) is not within the 60 bases"),
        ("fixedStep chrom=chrI step=1\n1", "t.wig:1: expected fixedStep with chrom=, start=, step=, span="),
        ("variableStep chrom=chrI step=1\n1 1", "t.wig:1: expected variableStep with chrom=, span="),
        ("variableStep chrom=chrI span=1 span=2\n1 1", "t.wig:1: expected variableStep"),
        ("variableStep chrom=chrI\n0 1", "t.wig:2: .* at least 1"),
        ("variableStep chrom=chrI\n1", "t.wig:2: wanted START VALUE"),
        ("variableStep chrom=chrI\n5 1\n4 1", "t.wig:3: .* is out of order after"),
        ("1.0", "t.wig:1: wanted CHROMOSOME START END VALUE"),
    ],
)
def test_a_wiggle_with_a_fault(text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        wiggle(text)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "fixedStep",
                "variableStep",
                "chrom=chrI",
                "start=1",
                "step=1",
                "span=0",
                "\n",
                "1",
                "0.5",
                "chrI",
                "track",
                "nan",
            ]
        ),
        max_size=30,
    )
)
def test_any_words_are_a_track_or_refused(words: list[str]) -> None:
    with contextlib.suppress(DataError):
        wiggle(" ".join(words))
