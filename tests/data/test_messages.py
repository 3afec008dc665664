"""Files that are something else than they seem: the message says what they are, and what to do."""

from pathlib import Path

import pytest

from instar.core.errors import InstarError
from instar.data.source import Csv, JsonLines, Parquet, SourceBase, Text

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"


@pytest.mark.parametrize("kind", [Text, JsonLines, Csv, Parquet])
def test_a_git_lfs_pointer(tmp_path: Path, kind: type[SourceBase]) -> None:
    (tmp_path / "x").write_bytes(POINTER)
    source = kind.model_validate({"path": str(tmp_path / "x")})
    with pytest.raises(InstarError, match=r"x: is a git-LFS pointer.*git lfs pull"):
        list(source.documents())


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.txt", "über".encode("utf-16"), "a.txt: is UTF-16LE text.*iconv -f UTF-16LE"),
        ("a.txt", b"\xfe\xff\x00a", "UTF-16BE"),
        ("a.txt", "abc".encode("utf-32"), "UTF-32LE"),
        ("a.txt", "ab\n".encode("utf-16-le"), "a.txt:1: holds NUL bytes.*UTF-16"),
        ("a.jsonl", b'[\n {"text": "a"},\n {"text": "b"}\n]', "a.jsonl:1: the file is one JSON array.*jq"),
        ("a.jsonl", b'\n[{"text": "a"}]', "a.jsonl:2: the file is one JSON array"),
        ("a.jsonl", b'{\n "text": "a"\n}', "a JSON object stands on several lines"),
        ("a.csv", b"PAR1....", "a.csv: is a Parquet file; set `kind: parquet`"),
        ("a.csv", b"PK\x03\x04....", "save an Excel workbook as CSV"),
        ("a.csv", b"text,label\n", "a.csv: there are no rows after the header"),
        ("a.csv", b"text\n\n\n", "a.csv: there are no rows after the header"),
        ("a.tsv", b'text\tlabel\n"one\ntwo"\tx\n', "a.tsv:2: .*got 1; .*double quotes.*`quoting: true`"),
        ("a.parquet", b"PAR1" + b"\0" * 20 + b"PAR1", "a.parquet: holds what is not read here, or is damaged"),
    ],
)
def test_other_kinds_of_files(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    kind = {".txt": Text, ".jsonl": JsonLines, ".csv": Csv, ".tsv": Csv, ".parquet": Parquet}[path.suffix]
    with pytest.raises(InstarError, match=said):
        list(kind.model_validate({"path": str(path)}).documents())


def test_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    with pytest.raises(InstarError, match=r"a.txt: is a broken link; .*gone.txt does not exist"):
        list(Text(path=str(tmp_path / "a.txt")).documents())
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(InstarError, match=r"a.txt: is a broken link"):
        list(Text(path=str(tmp_path / "*.txt")).documents())
