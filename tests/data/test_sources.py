"""Sources: what each reads, and what it says of bad input."""

import gzip
import json
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from instar.core.errors import DataError, InputMissingError, InstarError
from instar.core.files import reading as files
from instar.data.source import (
    Csv,
    Fasta,
    JsonLines,
    Mixture,
    Parquet,
    SavedDataset,
    Source,
    SourceBase,
    Text,
    TwoBit,
)


def texts(source: SourceBase) -> list[str]:
    return [document.text for document in source.documents()]


def write(path: Path, data: str | bytes) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return str(path)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def test_text_documents(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\r\ntwo\n\n \nthree")
    assert texts(Text(path=path)) == ["one\ntwo", "three"]
    assert texts(Text(path=path, separation="line")) == ["one", "two", "", " ", "three"]
    assert texts(Text(path=path, separation="file")) == ["one\ntwo\n\n \nthree"]
    assert [document.where for document in Text(path=path).documents()] == [f"{path}:1", f"{path}:5"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd, lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])])
def test_packed_files_are_known_by_their_first_bytes(tmp_path: Path, pack: object) -> None:
    path = write(tmp_path / "plain.txt", pack("eins zwei\nüber\n".encode()))  # type: ignore[operator]
    assert texts(Text(path=path, separation="line")) == ["eins zwei", "über"]


def test_patterns_lists_and_embedded(tmp_path: Path) -> None:
    for name in "cab":
        write(tmp_path / f"{name}.txt", name)
    pattern = str(tmp_path / "*.txt")
    assert texts(Text(path=pattern)) == ["a", "b", "c"]
    assert texts(Text(path=[str(tmp_path / "c.txt"), pattern])) == ["c", "a", "b", "c"]
    splice = Csv(path="embedded:splice.tsv.gz", text="x")
    assert splice.files()[0].parent == files.embedded_folder()


@pytest.mark.parametrize(
    "name", ["../cache.py", "/etc/passwd", "a/../b", "splice.tsv.gz/..", "", ".", "..", "x\0y", "spice.tsv.gz"]
)
def test_embedded_names_stay_in_the_package(name: str) -> None:
    with pytest.raises(InputMissingError, match="no such file"):
        Text(path=f"embedded:{name}").files()


def test_missing_files_are_told_together(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "x")
    names = [str(tmp_path / "trian.txt"), str(tmp_path / "*.gz"), str(tmp_path / "folder")]
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputMissingError) as caught:
        Text(path=names).files()
    assert "did you mean 'train.txt'" in str(caught.value)
    assert "no file matches" in str(caught.value)
    assert "this folder has no file that ends in .txt" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file is empty"),
        (b"good\nbad\0\n", "a.txt:2: holds NUL"),
        (b"good\n\xff\xfe\n", "a.txt:2: not UTF-8"),
        (gzip.compress(b"some text" * 99)[:-20], "damaged or cut short"),
        (gzip.compress(b"some text" * 99)[:60] + b"xx", "damaged or cut short"),
        (zstd(b"some text" * 99)[:-6], "damaged or cut short"),
        (b"PK\x03\x04....", "zip is not read"),
    ],
    # gzip writes the time into its header, and two test processes must name a test alike
    ids=["empty", "nul", "latin", "cut gzip", "gzip and more", "cut zstd", "zip"],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        texts(Text(path=write(tmp_path / "a.txt", data)))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_bombs_stop_early(tmp_path: Path, kind: str) -> None:
    plain = b"\n" * (64 << 20)
    packed = gzip.compress(plain) if kind == "gzip" else zstd(plain)
    path = write(tmp_path / "a", packed)
    started = time.process_time()
    with pytest.raises(DataError, match="decompression bomb"):
        for _ in files.byte_lines(Path(path)):
            pass
    assert time.process_time() - started < 60


def test_lines_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE", 1 << 20)
    path = write(tmp_path / "a", b"short\n" + b"x" * (2 << 20))
    with pytest.raises(DataError, match=r"a:2: the line is longer than 1 MiB"):
        texts(Text(path=path))


def test_a_line_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    line = "word " * (2 << 20)
    assert texts(Text(path=write(tmp_path / "a", f"x\n{line}\ny"), separation="line")) == ["x", line, "y"]


def test_jsonl_labels(tmp_path: Path) -> None:
    rows = [{"text": "a", "y": 1}, {"text": "b", "y": "1"}, {"text": "c", "y": ["u", "v", "u"]}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows[:2])) + "\n\n")
    assert [document.label for document in JsonLines(path=path, label="y").documents()] == ["1", "1"]
    numbers = JsonLines(path=path, label="y", label_kind="number")
    assert [document.label for document in numbers.documents()] == [1.0, 1.0]
    many = JsonLines(path=write(tmp_path / "b", json.dumps(rows[2])), label="y", label_kind="many")
    assert [document.label for document in many.documents()] == [("u", "v")]


def test_jsonl_faults_come_together(tmp_path: Path) -> None:
    lines = ['{"text": 3}', "[]", "{", '{"txt": "a"}', '{"text": "\\ud800"}', "[" * 20000, '{"text": "good"}']
    with pytest.raises(DataError) as caught:
        texts(JsonLines(path=write(tmp_path / "a", "\n".join(lines))))
    told = str(caught.value).split("\n")
    assert [line.split(":")[1] for line in told] == ["1", "2", "3", "4", "5", "6"]
    assert "did you mean 'txt'" in told[3]


def test_faults_have_a_cap(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        texts(JsonLines(path=write(tmp_path / "a", "{x\n" * 50)))
    assert str(caught.value).count("\n") == files.MAX_FAULTS
    assert str(caught.value).endswith("and 30 more")


def test_csv_forms(tmp_path: Path) -> None:
    comma = write(tmp_path / "a.csv", 'text,label\n"one, ""two""\nthree",x\n\nfour,y\n')
    rows = list(Csv(path=comma, label="label").documents())
    assert [(row.text, row.label) for row in rows] == [('one, "two"\nthree', "x"), ("four", "y")]
    assert [row.where for row in rows] == [f"{comma}:2", f"{comma}:5"]
    tab = write(tmp_path / "a.tsv.gz", gzip.compress(b'text\tlabel\n"so\tx\n'))
    assert texts(Csv(path=tab)) == ['"so']
    bare = write(tmp_path / "b.csv", "1;hello\n2;you\n")
    assert texts(Csv(path=bare, columns=["id", "text"], delimiter=";")) == ["hello", "you"]


def test_csv_faults(tmp_path: Path) -> None:
    ragged = write(tmp_path / "a.csv", "text,label\na,b\nc\nd,e,f\n")
    with pytest.raises(DataError) as caught:
        texts(Csv(path=ragged))
    assert str(caught.value).split("\n") == [
        f"{ragged}:3: wanted 2 cells (text, label); got 1",
        f"{ragged}:4: wanted 2 cells (text, label); got 3",
    ]
    with pytest.raises(DataError, match="no column 'txet'; did you mean 'text'"):
        texts(Csv(path=ragged, text="txet"))
    with pytest.raises(DataError, match="column names come twice: a"):
        texts(Csv(path=write(tmp_path / "b.csv", "a,a\n"), text="a"))
    with pytest.raises(DataError, match=r"c\.csv.*quoting: false"):
        texts(Csv(path=write(tmp_path / "c.csv", 'text\n"open\nend\n')))
    numbers = write(tmp_path / "d.csv", "text,label\na,1.5\nb,high\nc,nan\n")
    with pytest.raises(DataError, match=r"d\.csv:3: 'label' is to be a finite number; got 'high'"):
        texts(Csv(path=numbers, label="label", label_kind="number"))


def test_parquet(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": [0, 1]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    rows = Parquet(path=path, label="label").documents()
    assert [(row.text, row.label) for row in rows] == [("a", "0"), ("b", "1")]
    with pytest.raises(DataError, match="no column 'texts'; did you mean 'text'"):
        texts(Parquet(path=path, text="texts"))
    with pytest.raises(DataError, match="not a Parquet file"):
        texts(Parquet(path=write(tmp_path / "b", "text")))


def test_saved_dataset(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict

    data = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}).cast_column("label", ClassLabel(names=["no", "si"]))
    data.save_to_disk(tmp_path / "one")
    DatasetDict({"train": data, "test": data}).save_to_disk(tmp_path / "two")
    one = SavedDataset(path=str(tmp_path / "one"), label="label")
    assert [(row.text, row.label) for row in one.documents()] == [("a", "si"), ("b", "no")]
    with pytest.raises(DataError, match="choose a `split` of: train, test"):
        texts(SavedDataset(path=str(tmp_path / "two")))
    assert texts(SavedDataset(path=str(tmp_path / "two"), split="test")) == ["a", "b"]
    with pytest.raises(InputMissingError):
        texts(SavedDataset(path=str(tmp_path / "three")))
    write(tmp_path / "two" / "dataset_dict.json", "{")
    with pytest.raises(DataError, match="not a folder that save_to_disk wrote"):
        texts(SavedDataset(path=str(tmp_path / "two"), split="test"))


def test_fasta(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fa.gz", gzip.compress(b">x one\r\nACGTNN\r\nNacgt\r\n>y\nRYK\n"))
    found = [(one.name, one.start, one.text) for one in Fasta(path=path).documents()]
    assert found == [("x", 0, "ACGT"), ("x", 7, "acgt"), ("y", 0, "RYK")]
    assert list(Fasta(path=path).texts()) == ["ACGT", "ACGT", "RYK"]
    assert [one.text for one in Fasta(path=path, min_gap=4).documents()] == ["ACGTNNNacgt", "RYK"]
    twin = write(tmp_path / "b.fa", ">y\nAC\n")
    both = [(Path(one.file).name, one.name) for one in Fasta(path=[path, twin]).documents()]
    assert both == [("a.fa.gz", "x"), ("a.fa.gz", "x"), ("a.fa.gz", "y"), ("b.fa", "y")]
    again = write(tmp_path / "again.fa", ">y\nAC\n>y\nGT\n")
    with pytest.raises(DataError, match=r"again\.fa:3: the name 'y' came before"):
        texts(Fasta(path=again))
    with pytest.raises(DataError, match=r"c\.fa:2: record 'p'.*looks like protein"):
        texts(Fasta(path=write(tmp_path / "c.fa", ">p\nMKLVE\n")))


def test_the_embedded_genome() -> None:
    (record,) = Fasta(path="embedded:yeast_chrI.fa.gz").documents()
    assert (len(record.text), record.start) == (230_208, 0)
    assert set(record.text.upper()) == set("ACGT")


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "parquet", "fasta"])
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_read_or_refused_politely(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    for packed in (data, gzip.compress(data), b"text\n" + data):
        source = TypeAdapter(Source).validate_python({"kind": kind, "path": write(path, packed)})
        try:
            for document in source.documents():
                assert isinstance(document.text, str)
        except InstarError as error:
            told = str(error)
            assert str(path) in told


def test_kinds_are_file_names() -> None:
    folder = Path(sys.modules[SourceBase.__module__].__file__ or "").parent
    kinds = {
        kind.model_fields["kind"].default
        for kind in (Text, JsonLines, Csv, Parquet, Fasta, TwoBit, SavedDataset, Mixture)
    }
    assert kinds == {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "genome"}
