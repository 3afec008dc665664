"""FASTA records: what is read, what is refused, and where pieces between gaps lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.genome.fasta import read_records, without_gaps


def read(text: str) -> tuple[list[tuple[str, str]], list[str]]:
    faults: list[str] = []
    lines = enumerate(text.encode().split(b"\n"), start=1)
    records = read_records(lines, lambda line, fault: faults.append(f"{line}: {fault}"))
    return [(record.name, record.sequence) for record in records], faults


def test_records_keep_case_and_order() -> None:
    records, faults = read(">a first one\nACGT\nacgt\n\n>b\nNNRY\n")
    assert records == [("a", "ACGTacgt"), ("b", "NNRY")]
    assert not faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("ACGT\n", "1: sequence before the first header"),
        (">\nACGT\n", "1: the header has no name"),
        (">a\nAC\n>a\nGT\n", "3: the name 'a' came before"),
        (">a\nMKVLAE\n", "2: record 'a' has letters that are no nucleotides: E L; this looks like protein"),
        (">a\nAC*T\n", "2: record 'a' has letters that are no nucleotides: *"),
        (">a\n>b\nAC\n", "1: record 'a' has no sequence"),
    ],
)
def test_each_fault_names_its_line(text: str, fault: str) -> None:
    assert read(text)[1][0].startswith(fault)


def test_all_faults_are_told_and_letters_once_a_record() -> None:
    _, faults = read("AC\n>a\nEEE\nFFF\n>a\nQQ\n")
    assert [fault.split(":")[0] for fault in faults] == ["1", "3", "5", "6"]


@given(st.text("ACGTNnacgt"), st.integers(1, 4))
def test_pieces_and_gaps_make_the_sequence(sequence: str, min_gap: int) -> None:
    pieces = list(without_gaps(sequence, min_gap))
    for start, piece in pieces:
        assert piece
        assert sequence[start : start + len(piece)] == piece
        assert "N" * min_gap not in piece.upper()
    kept = sum(len(piece) for _, piece in pieces)
    rest = list(sequence)
    for start, piece in pieces:
        rest[start : start + len(piece)] = ["."] * len(piece)
    assert set(rest) <= {".", "N", "n"}
    assert kept == rest.count(".")


@given(st.binary())
def test_any_bytes_are_read_or_told(data: bytes) -> None:
    list(read_records(enumerate(data.split(b"\n"), start=1), lambda line, fault: None))
