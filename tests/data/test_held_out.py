"""Folders of data files, and splits that are rows or files of the training data: none is read twice."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from instar.config.load import load
from instar.core.errors import ConfigError, DataError, InputMissingError
from instar.data.config import DataConfig
from instar.data.source import Csv, JsonLines, Parquet, SavedDataset, SourceBase, Text


def texts(source: Any) -> list[str]:
    assert isinstance(source, SourceBase)
    return [document.text for document in source.documents()]


def table(folder: Path, splits: str, name: str = "rows") -> Path:
    path = folder / f"{name}.csv"
    path.write_text("text,split\n" + "".join(f"{name}{number},{split}\n" for number, split in enumerate(splits)))
    return path


def data(text: str) -> DataConfig:
    return load(text, DataConfig).value


def test_rows_of_a_column_are_held_out(tmp_path: Path) -> None:
    path = table(tmp_path, "tvtxt")
    train = f"train: {{kind: csv, path: {path}}}"
    found = data(f"{train}\neval: {{column: split, value: v}}\ntest: {{column: split, value: x}}")
    assert texts(found.train) == ["rows0", "rows2", "rows4"]
    assert (texts(found.eval), texts(found.test)) == (["rows1"], ["rows3"])
    again = data(json.dumps(found.model_dump(mode="json", by_alias=True)))
    assert again == found
    both = data(f"{train}\neval: {{column: split, value: [v, x]}}")
    assert (texts(both.train), texts(both.eval)) == (["rows0", "rows2", "rows4"], ["rows1", "rows3"])


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "dataset"])
def test_numbered_folds_in_every_kind_of_table(tmp_path: Path, kind: str) -> None:
    rows = [{"text": str(number), "fold": number % 2} for number in range(4)]
    path = tmp_path / "rows"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        from datasets import Dataset

        Dataset.from_list(rows).save_to_disk(path)
    found = data(f"train: {{kind: {kind}, path: {path}}}\neval: {{column: fold, value: 1}}")
    assert (texts(found.train), texts(found.eval)) == (["0", "2"], ["1", "3"])


def test_rows_of_a_third_split_are_not_trained_on_without_a_word(tmp_path: Path) -> None:
    path = table(tmp_path, "tvx")
    found = data(f"train: {{kind: csv, path: {path}}}\neval: {{column: split, value: v}}")
    with pytest.raises(DataError, match=r"several values \(or none\) in column 'split': t, x.*data.train.rows"):
        texts(found.train)
    rows = "{column: split, value: t}"
    chosen = data(f"train: {{kind: csv, path: {path}, rows: {rows}}}\neval: {{column: split, value: v}}")
    assert (texts(chosen.train), texts(chosen.eval)) == (["rows0"], ["rows1"])


def test_faults_of_rows(tmp_path: Path) -> None:
    path = table(tmp_path, "tv")
    train = f"kind: csv, path: {path}"
    with pytest.raises(DataError, match=r"no row has 'valid' in column 'split'; there are: 't' \(1\), 'v' \(1\)"):
        texts(data(f"train: {{{train}}}\neval: {{column: split, value: valid}}").eval)
    with pytest.raises(DataError, match="no column 'spilt'; did you mean 'split'"):
        texts(data(f"train: {{{train}}}\neval: {{column: spilt, value: v}}").train)
    with pytest.raises(ConfigError, match=r"eval: has rows of 't' in column 'split', as train has"):
        data(f"train: {{{train}, rows: {{column: split, value: t}}}}\neval: {{column: split, value: t}}")
    with pytest.raises(ConfigError, match="by one column, 'split'; got 'text'"):
        data(f"train: {{{train}}}\neval: {{column: split, value: v}}\ntest: {{column: text, value: rows0}}")


def test_files_are_held_out(tmp_path: Path) -> None:
    for name in ("a", "b", "test"):
        table(tmp_path, "x", name)
    found = data(f"train: {{kind: csv, path: {tmp_path}/*.csv}}\neval: {{path: {tmp_path}/b.csv}}")
    assert (texts(found.train), texts(found.eval)) == (["a0", "test0"], ["b0"])
    whole = data(f"train: {{kind: csv, path: {tmp_path}}}\ntest: {{path: {tmp_path}/test.csv}}")
    assert (texts(whole.train), texts(whole.test)) == (["a0", "b0"], ["test0"])
    with pytest.raises(InputMissingError, match="all of these files are held out"):
        texts(data(f"train: {{kind: csv, path: {tmp_path}/b.csv}}\neval: {{path: {tmp_path}/b.csv}}").train)


def test_a_folder_is_its_files_of_the_kind(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "part").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in ("b.txt", "part/a.txt", ".hidden/c.txt", "README.md"):
        (folder / name).write_text(name)
    assert texts(Text(path=str(folder))) == ["b.txt", "part/a.txt"]
    with pytest.raises(InputMissingError, match=r"no file that ends in .jsonl, .ndjson; it holds: README.md, b.txt"):
        texts(JsonLines(path=str(folder)))
    (folder / "part" / "gone.txt").symlink_to("nowhere")
    with pytest.raises(InputMissingError, match=r"gone.txt: is a broken link; nowhere does not exist"):
        texts(Text(path=str(folder)))


def test_a_hub_snapshot_is_read_through_its_links(tmp_path: Path) -> None:
    hub = tmp_path / "datasets--x"
    snapshot = hub / "snapshots" / "abc"
    (hub / "blobs").mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002")):
        pyarrow.parquet.write_table(pa.table({"text": [name]}), hub / "blobs" / str(number))
        (snapshot / "data" / f"{name}.parquet").symlink_to(hub / "blobs" / str(number))
    assert texts(Parquet(path=str(snapshot))) == ["train-00000-of-00002", "train-00001-of-00002"]
    with pytest.raises(InputMissingError, match=r"is a cache of a hub; name one of its snapshots: .*/snapshots/abc"):
        texts(Parquet(path=str(hub)))
    with pytest.raises(DataError, match=r"not a folder that save_to_disk wrote.*kind: parquet"):
        texts(SavedDataset(path=str(snapshot)))
    (snapshot / "data" / "test-00000-of-00001.parquet").symlink_to(hub / "blobs" / "0")
    with pytest.raises(DataError, match=r"files of several splits \(data/test-.*, data/train-.*\).*train\*"):
        texts(Parquet(path=str(snapshot)))


def test_a_saved_dataset_may_be_links(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "real")
    linked = tmp_path / "linked"
    linked.mkdir()
    for path in (tmp_path / "real").iterdir():
        (linked / path.name).symlink_to(path)
    source = SavedDataset(path=str(linked))
    assert texts(source) == ["a"]
    assert len(source.files()) == len(list((tmp_path / "real").iterdir()))


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\na\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert texts(Csv(path=str(tmp_path))) == ["a"]
