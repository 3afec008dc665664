"""2bit files: the same bases as a FASTA of them, in either byte order; what is damaged is refused."""

import gzip
import io
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DataError, InstarError
from instar.data.source import Fasta, Text, TwoBit
from instar.genome import twobit
from instar.genome.twobit import read_chunks
from instar.run.source import source_like
from tests.genome.packed import record, write_twobit

BASES = st.text("ACGTNacgtn", min_size=1, max_size=60)
SEQUENCES = st.dictionaries(st.text("abcXYZ019_.", min_size=1, max_size=9), BASES, min_size=1, max_size=5)


def sequences(path: Path) -> dict[str, str]:
    """The bases of each sequence as the reader gives them."""
    faults: list[tuple[int, str]] = []
    found: dict[str, str] = {}
    with path.open("rb") as file:
        for chunk in read_chunks(file, path.stat().st_size, str(path), lambda line, text: faults.append((line, text))):
            before = found.setdefault(chunk.name, "")
            assert chunk.start == len(before)
            found[chunk.name] = before + chunk.bases.decode()
    assert not faults
    return found


@pytest.mark.parametrize(("order", "version"), [("<", 0), (">", 0), ("<", 1), (">", 1)])
@given(given_sequences=SEQUENCES, chunk=st.sampled_from([4, 8, 1 << 20]))
@settings(max_examples=40, deadline=None)
def test_what_was_written_is_read(order: str, version: int, given_sequences: dict[str, str], chunk: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(twobit, "_CHUNK", chunk)
        path = write_twobit(Path(folder) / "x.2bit", given_sequences, order, version)
        assert sequences(path) == given_sequences


def fasta_of(path: Path, given_sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{bases}\n" for name, bases in given_sequences.items()))
    return path


@pytest.mark.parametrize("options", [{}, {"min_gap": 3}, {"chromosomes": ["b"]}, {"exclude_chromosomes": ["a"]}])
def test_documents_are_those_of_a_fasta(tmp_path: Path, options: dict[str, object]) -> None:
    rng = np.random.default_rng(3)
    given_sequences = {name: "".join(rng.choice(list("ACGTNNNacgt"), 500)) for name in "abc"} | {"d": "NNNN"}
    packed = TwoBit(path=str(write_twobit(tmp_path / "x.2bit", given_sequences)), **options)
    plain = Fasta(path=str(fasta_of(tmp_path / "x.fa", given_sequences)), **options)
    rows = [[(one.name, one.start, one.text, one.gap) for one in source.documents()] for source in (packed, plain)]
    assert rows[0] == rows[1]
    assert [size[1:] for size in packed.sizes()] == [size[1:] for size in plain.sizes()]


def broken() -> Iterator[tuple[str, bytes]]:
    """Files that are damaged, and what is said of them."""
    whole = struct.pack("<4I", 0x1A412743, 0, 1, 0) + b"\1x" + struct.pack("<I", 22) + record("ACGTNNacgt")
    yield "is no 2bit file", b"ABCD" + whole[4:]
    yield "version 2", whole[:4] + struct.pack("<I", 2) + whole[8:]
    yield "ends within its header", whole[:12]
    yield "names 4,294,967,295 sequences", whole[:8] + b"\xff\xff\xff\xff" + whole[12:]
    yield "ends within its index", struct.pack("<4I", 0x1A412743, 0, 1, 0) + b"\x09xxxx12"
    yield "begins at byte 9,999", whole[:18] + struct.pack("<I", 9999) + whole[22:]
    yield "end beyond the .* bytes of the file", whole[:22] + struct.pack("<I", 1 << 31) + whole[26:]
    yield "4,294,967,295 blocks of N, more than", whole[:26] + b"\xff\xff\xff\xff" + whole[30:]
    yield "blocks of N that overlap", whole[:34] + struct.pack("<I", 99) + whole[38:]
    yield "end beyond the .* bytes of the file", whole[:-1]
    yield "packed with gzip", gzip.compress(whole)


@pytest.mark.parametrize(
    ("wanted", "content"), list(broken()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_damaged_file_is_refused(tmp_path: Path, wanted: str, content: bytes) -> None:
    (tmp_path / "x.2bit").write_bytes(content)
    with pytest.raises(DataError, match=wanted) as caught:
        list(TwoBit(path=str(tmp_path / "x.2bit")).documents())
    assert str(tmp_path / "x.2bit") in str(caught.value)


def test_names_that_come_twice_and_sequences_without_bases_are_told_together(tmp_path: Path) -> None:
    one = record("ACGT")
    offsets = (("a", 0), ("a", len(one)), ("b", 2 * len(one)))
    index = b"".join(b"\1" + name.encode() + struct.pack("<I", 34 + at) for name, at in offsets)
    (tmp_path / "x.2bit").write_bytes(struct.pack("<4I", 0x1A412743, 0, 3, 0) + index + one + one + record(""))
    with pytest.raises(DataError, match=r"x.2bit:2: the name 'a' came before") as caught:
        list(TwoBit(path=str(tmp_path / "x.2bit")).documents())
    assert "x.2bit:3: sequence 'b' has no bases" in str(caught.value)


def test_many_sequences_of_the_same_bytes_are_refused(tmp_path: Path) -> None:
    """Else a file of some kilobytes would give gigabytes of bases."""
    names = [f"{number:03}".encode() for number in range(200)]
    at = 16 + 8 * len(names)
    index = b"".join(b"\3" + name + struct.pack("<I", at) for name in names)
    head = struct.pack("<4I", 0x1A412743, 0, len(names), 0)
    (tmp_path / "x.2bit").write_bytes(head + index + record("ACGT" * 1000))
    with pytest.raises(DataError, match="shares its bytes with others"):
        list(TwoBit(path=str(tmp_path / "x.2bit")).documents())


def test_memory_does_not_grow_with_a_sequence() -> None:
    size = 64 << 20
    body = struct.pack("<4I", size, 0, 0, 0) + bytes(size // 4)
    content = struct.pack("<4I", 0x1A412743, 0, 1, 0) + b"\1x" + struct.pack("<I", 22) + body
    file = io.BytesIO(content)
    tracemalloc.start()
    total = sum(len(chunk.bases) for chunk in read_chunks(file, len(content), "x", lambda *_: None))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == size
    assert peak < 32 << 20


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_ends_in_one_error_or_in_bases(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        path = write_twobit(Path(folder) / "x.2bit", {"one": "ACGTNNNNacgtACGT" * 3, "two": "ttNNac"})
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(content)
        bases = 0
        with suppress(InstarError):
            bases = sum(len(one.text) for one in TwoBit(path=str(path)).documents())
        assert bases <= 4 * len(content)


def test_a_reader_of_text_names_the_kind(tmp_path: Path) -> None:
    for order in "<>":
        path = write_twobit(tmp_path / "x", {"a": "ACGT"}, order)
        with pytest.raises(DataError, match="is a 2bit genome; set `kind: twobit`"):
            list(Text(path=str(path)).documents())


def test_a_file_without_an_ending_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    for order in "<>":
        path = write_twobit(tmp_path / "x", {"a": "ACGT"}, order)
        assert isinstance(source_like(None, path, labelled=False), TwoBit)
    assert isinstance(source_like(None, tmp_path / "hg38.2bit", labelled=False), TwoBit)
