"""FASTA records: what is read, what is refused, and where stretches between gaps lie, however the file is cut."""

import re
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.genome.fasta import MAX_HEADER, Chunk, read_chunks
from instar.genome.stretches import stretches, within


def read(text: bytes, size: int = 1 << 20) -> tuple[list[tuple[str, str]], list[str]]:
    """(records, faults) of a file that comes in blocks of this size."""
    faults: list[str] = []
    blocks = (text[at : at + size] for at in range(0, len(text), size))
    records: dict[int, tuple[str, str]] = {}
    for chunk in read_chunks(blocks, lambda line, fault: faults.append(f"{line}: {fault}")):
        name, bases = records.setdefault(chunk.line, (chunk.name, ""))
        assert chunk.start == len(bases)
        records[chunk.line] = (name, bases + chunk.bases.decode("latin-1"))
    return list(records.values()), faults


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_records_keep_case_and_order(size: int) -> None:
    records, faults = read(b">a first one\nACGT\r\nac gt\n\n> b\r\nNNRY\n>c\nA\r", size)
    assert records == [("a", "ACGTacgt"), ("b", "NNRY"), ("c", "A")]
    assert not faults


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\n\nACGT\n", "3: sequence before the first header"),
        (">\nACGT\n", "1: the header has no name"),
        (">a\nAC\n>a\nGT\n", "3: the name 'a' came before"),
        (">a\nA\nMKVLAE\n", "3: record 'a' has letters that are no nucleotides: E"),
        (">a\nAC*T\n", "2: record 'a' has letters that are no nucleotides: *"),
        (">a\nAC\rGT\n", "2: record 'a' has letters that are no nucleotides: \r"),
        (">a\n>b\nAC\n", "1: record 'a' has no sequence"),
        (f">{'a' * MAX_HEADER}\nAC\n", "1: the header is longer than 1 MiB"),
    ],
)
def test_each_fault_names_its_line(text: str, fault: str, size: int) -> None:
    if len(text) > 100:
        size *= 100_000
    told = read(text.encode(), size)[1][0]
    assert told.startswith(fault) or (size < 10 and " E" in fault and told.startswith(fault[:-1]))


def test_all_faults_are_told_and_letters_once_a_record() -> None:
    _, faults = read(b"AC\n>a\nEEE\nFFF\n>a\nQQ\n")
    assert [fault.split(":")[0] for fault in faults] == ["1", "3", "5", "6"]
    assert "looks like protein" in faults[1]


def cut(text: str, sizes: list[int]) -> Iterator[tuple[int, bytes]]:
    at = 0
    for size in [*sizes, len(text)]:
        if at < len(text):
            yield at, text[at : at + size].encode()
            at += size


@given(
    st.text("ACGTNnacgt"), st.integers(1, 4), st.integers(1, 8), st.lists(st.integers(1, 6), max_size=20)
)  # fmt: skip
def test_stretches_are_what_lies_between_gaps(sequence: str, min_gap: int, longest: int, sizes: list[int]) -> None:
    expected, at = [], 0
    for gap in [*re.finditer(f"[Nn]{{{min_gap},}}", sequence), None]:
        end = len(sequence) if gap is None else gap.start()
        expected += [(first, sequence[first : min(first + longest, end)]) for first in range(at, end, longest)]
        at = end if gap is None else gap.end()
    assert list(stretches(cut(sequence, sizes), min_gap, longest)) == expected


@given(st.text("ACGT", max_size=40), st.lists(st.integers(0, 50), max_size=8), st.lists(st.integers(1, 6), max_size=9))
def test_places_of_a_sequence(sequence: str, bounds: list[int], sizes: list[int]) -> None:
    ordered = sorted(set(bounds))
    places = list(zip(ordered[::2], ordered[1::2], strict=False))
    found = list(stretches(within(cut(sequence, sizes), places)))
    assert found == [(start, sequence[start:end]) for start, end in places if sequence[start:end]]


@given(st.binary(), st.integers(1, 5))
def test_any_bytes_are_read_or_told(data: bytes, size: int) -> None:
    whole, faults = read(data.replace(b"\0", b""))
    again, _ = read(data.replace(b"\0", b""), size)
    assert faults or whole == again


def test_memory_grows_neither_with_a_line_nor_with_a_record() -> None:
    def longest_held(num_blocks: int) -> int:
        block = b"ACGTACGT" * 1024

        def bases(chunks: Iterator[Chunk]) -> Iterator[tuple[int, bytes]]:
            return ((chunk.start, chunk.bases) for chunk in chunks)

        blocks = (b">a\n" if number < 0 else block for number in range(-1, num_blocks))
        tracemalloc.start()
        total = 0
        for _, text in stretches(bases(read_chunks(blocks, lambda *_: None)), longest=1 << 16):
            total += len(text)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == num_blocks * len(block)
        return peak

    assert longest_held(400) < longest_held(40) + (1 << 16)
