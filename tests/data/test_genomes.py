"""Parts of a genome: chosen sequences and intervals, whose coordinates stay those of the sequence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instar.config.load import load
from instar.core.errors import ConfigError, DataError, InputMissingError
from instar.data.cache import build_cache
from instar.data.config import DataConfig
from instar.data.fingerprint import source_fingerprint
from instar.data.source import Fasta, SourceBase
from instar.data.source.genome import Genome, must_be_apart
from instar.data.tokenizer import Character, build_tokenizer
from instar.genome.coordinates import Interval

FIRST, SECOND = "ACGTACGTNNNacgtacgtACGT", "GGGGCCCCTTTTAAAA"


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    path = tmp_path / "genome.fa"
    path.write_text(f">chrI first\n{FIRST[:10]}\n{FIRST[10:20]}\n{FIRST[20:]}\n>chrII\n{SECOND}\n>chrIII\nNNNN\n")
    return path


def bed(genome: Path, text: str, name: str = "train.bed") -> str:
    path = genome.with_name(name)
    path.write_text(text)
    return str(path)


def found(source: Any) -> list[tuple[str, int, str]]:
    assert isinstance(source, SourceBase)
    return [(one.name, one.start, one.text) for one in source.documents()]


def test_chosen_chromosomes(genome: Path) -> None:
    path = str(genome)
    assert found(Fasta(path=path, chromosomes=["chrII"])) == [("chrII", 0, SECOND)]
    rest = [("chrI", 0, FIRST[:8]), ("chrI", 11, FIRST[11:]), ("chrIII", 0, "")]
    assert found(Fasta(path=path, exclude_chromosomes=["chrII"])) == rest
    both = Fasta(path=path, chromosomes=["chrII", "chrI"], exclude_chromosomes=["chrI"])
    assert found(both) == [("chrII", 0, SECOND)]
    assert list(both.sizes()) == [(genome, "chrII", len(SECOND))]
    assert both.bases(Interval("chrI", 9, 14)) == FIRST[9:14]


def test_intervals_keep_the_coordinates_of_their_sequence(genome: Path) -> None:
    rows = "track name=x\n#note\n"
    rows += "chrI\t12\t15\tb\t0\t-\nchrI\t5\t12\nchrI\t20\t22\nchrI\t18\t21\nchrII\t0\t4\nchrII\t4\t6\n"
    source = Fasta(path=str(genome), intervals=bed(genome, rows))
    places = [("chrI", 5, "CGT"), ("chrI", 11, "acgt"), ("chrI", 18, "tACG"), ("chrII", 0, "GGGGCC")]
    assert found(source) == [(name, start, text) for name, start, text in places]
    assert all(
        text == {"chrI": FIRST, "chrII": SECOND}[name][start : start + len(text)] for name, start, text in places
    )
    (notice,) = source.notices()
    assert "6 intervals, 20 bases of chrI, chrII, are read, 3 overlap or touch" in notice
    assert "strands are ignored" in notice
    left = Fasta(path=str(genome), exclude_intervals=source.intervals or "", chromosomes=["chrI", "chrII"])
    assert found(left) == [
        ("chrI", 0, FIRST[:5]),
        ("chrI", 15, FIRST[15:18]),
        ("chrI", 22, FIRST[22:]),
        ("chrII", 6, SECOND[6:]),
    ]


def test_an_interval_of_n_only_is_a_row_of_its_sequence(genome: Path) -> None:
    source = Fasta(path=str(genome), intervals=bed(genome, "chrI\t8\t10\nchrIII\t1\t3\n"))
    assert [(one.name, one.start, one.text, one.gap) for one in source.documents()] == [
        ("chrI", 8, "", 2),
        ("chrIII", 1, "", 2),
    ]


def test_blocks_of_a_row_are_what_is_read(genome: Path) -> None:
    row = "chrII\t0\t10\tx\t0\t+\t0\t10\t0\t2\t3,4,\t0,6,\n"
    assert found(Fasta(path=str(genome), intervals=bed(genome, row))) == [("chrII", 0, "GGG"), ("chrII", 6, "CCTT")]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"chromosomes": ["chrIV", "chrI"]}, "no sequence 'chrIV'; did you mean 'chrI"),
        ({"chromosomes": ["II"]}, "no sequence 'II'; did you mean 'chrII'"),
        ({"exclude_chromosomes": ["x"]}, "no sequence 'x'; there are: chrI, chrII, chrIII"),
        ({"intervals": "chrI\t0\t4\nchrII\t2\t17\n"}, "train.bed:2: an interval ends at 17, beyond the end of chrII"),
        ({"intervals": "I\t0\t4\n"}, "no sequence 'I'; did you mean 'chrI'"),
        ({"intervals": "chrI\t4\t4\nchrI\tx\t4\n"}, "train.bed:1: .*holds no base"),
        ({"intervals": "\n#nothing\n"}, "train.bed: holds no intervals"),
        ({"exclude_intervals": "chrIX\t0\t4\n"}, "no sequence 'chrIX'"),
    ],
)
def test_what_is_not_there_is_refused(genome: Path, choice: dict[str, Any], told: str) -> None:
    named = {key: bed(genome, value) if isinstance(value, str) else value for key, value in choice.items()}
    with pytest.raises(DataError, match=told):
        found(Fasta(path=str(genome), **named))


def test_intervals_of_sequences_that_are_not_chosen_are_not_needed(genome: Path) -> None:
    rows = bed(genome, "chrII\t0\t4\nelsewhere\t0\t9\n")
    assert found(Fasta(path=str(genome), intervals=rows, chromosomes=["chrII"])) == [("chrII", 0, "GGGG")]


def test_intervals_of_a_name_that_two_files_have_are_refused(genome: Path) -> None:
    twin = genome.with_name("twin.fa")
    twin.write_text(f">chrII\n{SECOND}\n")
    paths = [str(genome), str(twin)]
    assert len(found(Fasta(path=paths, chromosomes=["chrII"]))) == 2
    with pytest.raises(DataError, match=r"twin\.fa:1: the name 'chrII' came before, in .*genome\.fa, and intervals"):
        found(Fasta(path=paths, intervals=bed(genome, "chrII\t0\t4\n")))


def test_a_file_of_intervals_that_is_not_there(genome: Path) -> None:
    with pytest.raises(InputMissingError, match=r"none\.bed"):
        found(Fasta(path=str(genome), intervals=str(genome.with_name("none.bed"))))


def test_other_intervals_are_other_data_and_a_moved_file_is_not(genome: Path) -> None:
    def fingerprint(**choice: Any) -> str:
        return source_fingerprint(Fasta(path=str(genome), **choice), genome.parent)

    one = bed(genome, "chrI\t0\t4\n")
    names = {fingerprint(), fingerprint(intervals=one), fingerprint(chromosomes=["chrI"])}
    assert len(names) == 3
    assert fingerprint(intervals=bed(genome, "chrI\t0\t4\n", "moved.bed")) in names
    assert fingerprint(intervals=bed(genome, "chrI\t0\t5\n", "other.bed")) not in names


def test_tokens_of_an_interval_lie_where_the_sequence_has_them(genome: Path, tmp_path: Path) -> None:
    source = Fasta(path=str(genome), intervals=bed(genome, "chrII\t3\t9\nchrI\t12\t20\n"))
    tokenizer = build_tokenizer(Character(), source.texts)
    cache = build_cache(source, tokenizer, tmp_path / "cache")
    assert [(cache.name(number), cache.start(number)) for number in range(2)] == [("chrI", 12), ("chrII", 3)]
    assert np.diff(cache.offsets).tolist() == [8, 6]


# ---- held out ----


def data(text: str) -> DataConfig:
    return load(text, DataConfig).value


def test_a_chromosome_is_held_out_in_one_line(genome: Path) -> None:
    config = data(
        f"train: {{kind: fasta, path: {genome}}}\neval: {{chromosomes: [chrII]}}\ntest: {{chromosomes: [chrIII]}}"
    )
    assert {name for name, _, _ in found(config.train)} == {"chrI"}
    assert found(config.eval) == [("chrII", 0, SECOND)]
    assert [name for name, _, _ in found(config.test)] == ["chrIII"]
    chosen = data(f"train: {{kind: fasta, path: {genome}, chromosomes: [chrI]}}\neval: {{chromosomes: [chrII]}}")
    assert {name for name, _, _ in found(chosen.train)} == {"chrI"}
    assert found(chosen.eval) == [("chrII", 0, SECOND)]


def test_intervals_are_held_out_in_one_line(genome: Path) -> None:
    rows = bed(genome, "chrII\t4\t8\n")
    config = data(f"train: {{kind: fasta, path: {genome}}}\neval: {{intervals: {rows}}}")
    assert found(config.eval) == [("chrII", 4, "CCCC")]
    assert found(config.train)[2:4] == [("chrII", 0, "GGGG"), ("chrII", 8, SECOND[8:])]


@pytest.mark.parametrize(
    ("train", "held_out", "told"),
    [
        ({}, {"chromosomes": ["chrII"]}, "has 16 bases that data.train has too, first chrII:0-16"),
        ({"intervals": "chrI\t0\t6\n"}, {"intervals": "chrI\t5\t8\nchrII\t0\t4\n"}, "has 1 bases .*chrI:5-6"),
        ({"exclude_chromosomes": ["chrI"]}, {"exclude_chromosomes": ["chrII"]}, "has 4 bases .*chrIII:0-4"),
        ({"chromosomes": ["chrI"]}, {"chromosomes": ["chrII"]}, None),
        ({"exclude_chromosomes": ["chrI"]}, {"exclude_chromosomes": ["chrII", "chrIII"]}, None),
        ({"intervals": "chrI\t0\t6\n"}, {"exclude_intervals": "chrI\t0\t6\n"}, None),
    ],
)
def test_what_is_held_out_is_not_trained_on(
    genome: Path, train: dict[str, Any], held_out: dict[str, Any], told: str | None
) -> None:
    def made(name: str, choice: dict[str, Sequence[str] | str]) -> Genome:
        named = {key: bed(genome, text, name) if isinstance(text, str) else text for key, text in choice.items()}
        return Fasta(path=str(genome), **named)

    one, other = made("eval.bed", held_out), made("train.bed", train)
    if told is None:
        must_be_apart("data.eval", one, other)
        return
    with pytest.raises(ConfigError, match=told):
        must_be_apart("data.eval", one, other)
