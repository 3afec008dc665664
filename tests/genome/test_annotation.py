"""Annotation by its specifications: GFF3, GTF and BED, clause by clause, and sums over classes of features."""

import contextlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DataError
from instar.genome.annotation import Annotation, Feature, read_features, summarise
from instar.genome.coordinates import Interval
from instar.genome.track import Track, empty_track

SIZES = {"chrI": 60, "chrII": 40}


def read(text: str, sizes: dict[str, int] | None = None, place: str = "a") -> Annotation:
    return read_features(enumerate(text.split("\n"), 1), place, sizes or SIZES)


def spans(text: str, sizes: dict[str, int] | None = None) -> list[tuple[str, str]]:
    return [(str(one.interval), one.kind) for one in read(text, sizes).features]


# ---- GFF3 ----


def gff(start: int, end: int, attributes: str = "", *, sequence: str = "chrI", kind: str = "gene") -> str:
    return f"{sequence}\tx\t{kind}\t{start}\t{end}\t.\t+\t.\t{attributes}\n"


def test_a_gff_counts_from_one_and_includes_its_end() -> None:
    text = "##gff-version 3\n" + gff(1, 10, "ID=g1;Name=ACT1") + "I\tx\tCDS\t3\t3\t.\t-\t0\tID=c\n"
    found = read(text).features
    assert [(str(one.interval), one.interval.strand, one.kind, one.name) for one in found] == [
        ("chrI:0-10", "+", "gene", "ACT1"),
        ("chrI:2-3", "-", "CDS", "c"),
    ]


@pytest.mark.parametrize("end", ["##FASTA\n>chrI\nACGT", ">chrI\nACGT"])
def test_a_gff_ends_where_its_sequence_begins(end: str) -> None:
    assert spans(gff(1, 10) + end) == [("chrI:0-10", "gene")]


def test_a_directive_that_begins_like_another_ends_nothing() -> None:
    assert len(spans("##FASTAS\n" + gff(1, 10) + "###\n" + gff(2, 3))) == 2


def test_percent_encoded_names_and_attributes() -> None:
    text = gff(1, 10, "Name=a%3Bb%2Cc%3Dd;Note=x", sequence="seq%2C1", kind="pseudo%20gene")
    (feature,) = read(text, {"seq,1": 10}).features
    assert (feature.interval.chromosome, feature.kind, feature.name) == ("seq,1", "pseudo gene", "a;b,c=d")
    # What the sequence's file calls so itself is not decoded.
    assert spans(gff(1, 10, sequence="a%2C1"), {"a%2C1": 10, "a,1": 5}) == [("a%2C1:0-10", "gene")]


def test_rows_with_one_id_are_one_feature() -> None:
    cds = [gff(1, 10, "ID=c1;Parent=m1,m2", kind="CDS"), gff(21, 30, "ID=c1", kind="CDS"), gff(41, 50, kind="CDS")]
    rows = {row.kind: row for row in summarise(empty_track(SIZES), read("".join(cds)).features)}
    assert (rows["CDS"].num_features, rows["CDS"].num_bases) == (2, 30)


def test_a_circular_landmark_lets_a_feature_go_on_at_its_start() -> None:
    landmark = gff(1, 60, "ID=chrI;Is_circular=true", kind="region")
    crossing = gff(51, 70, "ID=g")
    for text in (landmark + crossing, crossing + landmark):
        found = sorted((one.interval.start, one.interval.end) for one in read(text).features if one.kind == "gene")
        assert found == [(0, 10), (50, 60)]
    assert (
        next(row for row in summarise(empty_track(SIZES), read(text).features) if row.kind == "gene").num_features == 1
    )
    for refused in (
        crossing,
        crossing + landmark.replace("true", "false"),
        landmark + gff(61, 70),
        landmark + gff(2, 62),
    ):
        with pytest.raises(DataError, match="is beyond the end: in this genome chrI has 60 bases"):
            read(refused)
    with pytest.raises(DataError, match="is beyond the end"):
        read(landmark.replace("60", "70"))


def test_a_sequence_region_of_another_assembly() -> None:
    assert spans("##sequence-region chrI 11 60\n" + gff(1, 2)) == [("chrI:0-2", "gene")]
    with pytest.raises(DataError, match=r"a:1: says that chrI has bases up to 61; .* is it of another assembly\?"):
        read("##sequence-region chrI 1 61\n" + gff(1, 2))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (gff(0, 10), "1 <= start <= end, got 0 and 10"),
        (gff(11, 10), "1 <= start <= end, got 11 and 10"),
        (gff(1, 10).replace("\t10\t", "\t1_0\t"), "a whole number, got '1_0'"),
        (gff(1, 10).replace("\t+\t", "\t*\t"), r"a strand, one of \+ - . \?, got '\*'"),
        (gff(1, 10).replace("+\t.", "+\t3"), "a phase, one of 0 1 2 ., got '3'"),
        (gff(1, 10).replace("gene", ""), "the column of the sequence or of the type is empty"),
        (gff(1, 10, "a\tb"), "9 columns separated by tabs, got 10"),
        (gff(1, 10).replace("\t", "  "), "9 columns separated by tabs, got 1"),
    ],
)
def test_rows_that_are_no_gff(line: str, told: str) -> None:
    with pytest.raises(DataError, match=f"a:2: is no line of a GFF file: .*{told}"):
        read("##gff-version 3\n" + line)


def test_strands_of_a_gff() -> None:
    text = "".join(gff(1, 2).replace("+", strand) for strand in "+-.?")
    assert [one.interval.strand for one in read(text).features] == ["+", "-", ".", "."]


# ---- GTF ----


def test_quoted_attributes_hold_semicolons() -> None:
    text = gff(1, 10, 'gene_id "G;1"; transcript_id "T 1"; exon_number 2; # a comment', kind="exon")
    text += gff(3, 4, 'transcript_id "T2";', kind="exon") + gff(
        5, 6, 'gene_id "G2"; gene_name "ACT;1"; tag "a"; tag "b";'
    )
    assert [(str(one.interval), one.name) for one in read(text).features] == [
        ("chrI:0-10", "G;1"),
        ("chrI:2-4", "T2"),
        ("chrI:4-6", "ACT;1"),
    ]


# ---- BED ----


def test_a_bed_counts_from_zero() -> None:
    text = "chrI\t0\t10\trepeat\t0\t+\nchrII\t3\t4\nI 5 6 other\nchrI\t7\t8\ttwo words\nchrI\t7\t8\t.\n"
    assert spans(text) == [
        ("chrI:0-10", "repeat"),
        ("chrII:3-4", "feature"),
        ("chrI:5-6", "other"),
        ("chrI:7-8", "two words"),
        ("chrI:7-8", "feature"),
    ]


def test_lines_for_a_browser_are_told_by_their_word() -> None:
    text = "browser position chrI:1-10\ntrack name=mine chrI 5 10\n#track\ntrackA\t1\t2\tx\nbrowserless 3 4 y\n"
    text += "track\t5\t6\tz\ntrack\n"
    sizes = {"trackA": 9, "browserless": 9, "track": 9}
    assert spans(text, sizes) == [("trackA:1-2", "x"), ("browserless:3-4", "y"), ("track:5-6", "z")]
    assert spans(gff(1, 2, sequence="track"), sizes) == [("track:0-2", "gene")]


def test_a_place_between_two_bases_is_a_feature_without_bases() -> None:
    text = "chrI\t5\t5\tinsertion\nchrI\t60\t60\tinsertion\nchrI\t0\t0\tinsertion\n"
    rows = {row.kind: row for row in summarise(empty_track(SIZES), read(text).features)}
    assert (rows["insertion"].num_features, rows["insertion"].num_bases) == (3, 0)


def test_narrow_and_broad_peaks() -> None:
    narrow = "chrI\t1\t9\tpeak_1\t850\t.\t7.5\t-1\t3.2\t4\n"
    broad = "chrI\t2\t8\t.\t100\t.\t2.5\t1.1\t-1\n"
    assert spans(narrow) == [("chrI:1-9", "peak_1")]
    assert spans(broad) == [("chrI:2-8", "feature")]


BED12 = "chrI\t10\t40\tgene\t0\t-\t10\t40\t0\t2\t5,10,\t0,20,\n"


def test_the_bases_of_a_row_with_blocks_are_those_of_its_blocks() -> None:
    found = read(BED12).features
    assert [(one.interval.start, one.interval.end, one.interval.strand) for one in found] == [
        (10, 15, "-"),
        (30, 40, "-"),
    ]
    row = summarise(empty_track(SIZES), found)[1]
    assert (row.kind, row.num_features, row.num_bases) == ("gene", 1, 15)
    # Twelve columns of something else: two tables of six side by side.
    assert spans("chrI\t1\t9\ta\t0\t+\tchrII\t3\t4\tb\t0\t-\n") == [("chrI:1-9", "a")]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("chrI\t10\t5\tx", "start <= end, got 10 and 5"),
        ("chrI\t-1\t5\tx", "a whole number, got '-1'"),
        ("chrI\t1e1\t50\tx", "a whole number, got '1e1'"),
        ("chrI\t5", "SEQUENCE START END"),
        (BED12.replace("\t2\t", "\t3\t"), "3 block sizes and starts, got 2 and 2"),
        (BED12.replace("0,20,", "0,3,"), "the blocks overlap"),
        (BED12.replace("0,20,", "0,19,"), "the blocks span 10-39, expected 10-40"),
        (BED12.replace("5,10", "5,x"), "a whole number, got 'x'"),
    ],
)
def test_rows_that_are_no_bed(line: str, told: str) -> None:
    with pytest.raises(DataError, match=f"a:2: is no line of a BED file: .*{told}"):
        read("chrI\t1\t2\n" + line)


# ---- the genome they are of ----


def test_features_on_other_sequences_are_skipped_and_counted() -> None:
    found = read("chr9\t0\t5\tx\nchrI\t0\t5\tx\nchr9\t0\t9999\tx\nchr10\t0\t5\tx\n")
    assert [str(one.interval) for one in found.features] == ["chrI:0-5"]
    assert found.skipped == {"chr9": 2, "chr10": 1}
    (notice,) = found.notices("a.bed")
    assert notice.startswith("a.bed: 3 features are skipped; they lie on sequences that are not in this genome")
    assert notice.endswith(": chr9, chr10")
    with pytest.raises(DataError, match=r"(?s)none of its features .* it names NC_1, and .* chrI, chrII; .*--aliases"):
        read("NC_1\t0\t5\tx\n")
    with pytest.raises(DataError, match=r"a:1: chrI:55-61 is beyond the end"):
        read("chrI\t55\t61\tx\n")


def test_a_name_is_no_prefix() -> None:
    assert spans("chr10\t0\t5\tx\nchr1\t0\t4\ty\n", {"chr1": 9, "chr10": 9}) == [("chr10:0-5", "x"), ("chr1:0-4", "y")]
    assert read("chr10\t0\t5\tx\nchr1\t0\t4\ty\n", {"chr1": 9}).skipped == {"chr10": 1}


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from('chrI\t0123456789 .+-#>;=%"\ngeneID_track\u0431'), max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DataError):
        read(text)


# ---- sums ----


def test_a_class_is_summed_over_its_bases_once() -> None:
    track = empty_track(SIZES)
    track["chrI"][:20] = 0.5
    track["chrI"][20:30] = 1.0
    text = "chrI\t0\t20\trepeat\nchrI\t10\t30\trepeat\nchrI\t25\t35\tgene"
    told = {row.kind: row for row in summarise(track, read(text).features)}
    assert (told["repeat"].num_features, told["repeat"].num_bases, told["repeat"].num_known) == (2, 30, 30)
    assert told["repeat"].mean == pytest.approx((20 * 0.5 + 10) / 30)
    assert (told["gene"].num_bases, told["gene"].num_known, told["gene"].mean) == (10, 5, 1.0)
    assert told["(none)"].num_bases == 25 + 40
    assert np.isnan(told["(none)"].mean)


SPAN = st.tuples(st.sampled_from("abc"), st.sampled_from(list(SIZES)), st.integers(0, 40), st.integers(0, 40))


@settings(max_examples=40, deadline=None)
@given(st.lists(SPAN, max_size=30), st.integers(0, 9))
def test_sums_are_those_of_masks(rows: list[tuple[str, str, int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    track: Track = {name: rng.choice([np.nan, 0.25, 0.5, 1], size).astype(np.float32) for name, size in SIZES.items()}
    features = [Feature(Interval(name, *sorted(ends)), kind) for kind, name, *ends in rows]
    told = {row.kind: row for row in summarise(track, features)}
    masks = {kind: {name: np.zeros(size, bool) for name, size in SIZES.items()} for kind in ("a", "b", "c", "(none)")}
    for feature in features:
        for kind in (feature.kind, "(none)"):
            masks[kind][feature.interval.chromosome][feature.interval.start : feature.interval.end] = True
    masks["(none)"] = {name: ~mask for name, mask in masks["(none)"].items()}
    for kind, row in told.items():
        values = np.concatenate([track[name][mask] for name, mask in masks[kind].items()])
        known = values[~np.isnan(values)]
        assert (row.num_bases, row.num_known) == (len(values), len(known))
        assert row.mean == pytest.approx(known.mean()) if len(known) else np.isnan(row.mean)


def test_many_classes_cost_no_more_memory_than_few() -> None:
    size = 200_000
    track = {"c": np.zeros(size, np.float32)}
    starts = np.random.default_rng(0).integers(0, size - 50, 3000).tolist()

    def peak(num_kinds: int) -> int:
        features = [Feature(Interval("c", at, at + 50), f"n{number % num_kinds}") for number, at in enumerate(starts)]
        tracemalloc.start()
        try:
            assert len(summarise(track, features)) == num_kinds + 1
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(1500) < 2 * peak(2)
