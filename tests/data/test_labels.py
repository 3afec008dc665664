"""Labels: read by their declared types, refused with the option that settles it where they may mean two things."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DataError
from instar.data import TokenCache, build_cache
from instar.data.label import read_class, read_number
from instar.data.source import ColumnSource, Csv, JsonLines, Parquet, SavedDataset
from instar.data.tokenizer import Kmer, build_tokenizer
from instar.run.source import withholds_labels

TOKENIZER = build_tokenizer(Kmer(k=1), lambda: iter(()))


def table(folder: Path, labels: list[Any], **options: Any) -> Csv:
    path = folder / "rows.csv"
    path.write_text("text,label\n" + "".join(f'ACGT,"{label}"\n' for label in labels))
    return Csv(path=str(path), label="label", **options)


def objects(folder: Path, labels: list[Any], **options: Any) -> JsonLines:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "ACGT", "label": label}) + "\n" for label in labels))
    return JsonLines(path=str(path), label="label", **options)


def parquet(folder: Path, labels: Any, features: Any = None, name: str = "rows", **options: Any) -> Parquet:
    made = pa.table({"text": ["ACGT"] * len(labels), "label": labels})
    if features is not None:
        described = json.dumps({"info": {"features": {"label": features}}})
        made = made.replace_schema_metadata({"huggingface": described})
    pyarrow.parquet.write_table(made, folder / f"{name}.parquet")
    return Parquet(path=str(folder / f"{name}.parquet"), label="label", **options)


def built(source: ColumnSource, folder: Path, labels: tuple[str, ...] | None = None) -> TokenCache:
    return build_cache(source, TOKENIZER, folder / "caches", labels=labels)


def learned(source: ColumnSource, folder: Path) -> tuple[tuple[str, ...] | None, list[Any]]:
    cache = built(source, folder)
    assert cache.labels is not None
    return cache.label_names, cache.labels.tolist()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["1", "1.0", "0"], r"rows.csv:3: label '1.0' is equal to '1' \(.*:2\).*label_type: integer"),
        (["0", "1", "01"], "rows.csv:4: label '01'.*label_type: text"),
        (["True", "true"], "rows.csv:3: label 'true' is equal to 'True'"),
        (["1", "True"], "rows.csv:3: label 'True' is equal to '1'"),
        (["0", "-1", "1"], r"rows.csv:3: label '-1' may be a missing label; set label_missing: \[\"-1\"\]"),
        (["2", "0", "-100"], "rows.csv:4: label '-100' may be a missing label"),
        (["a", "?"], r"rows.csv:3: label '\?' may be a missing label"),
        (["[1, 0]", "[0, 1]"], "rows.csv:2: 'label' is to be one class; got a list written as text.*multi_hot"),
        (["0.0", "-1.0"], "rows.csv:3: label '-1.0' may be a missing label"),
        (["a", "nan"], r"rows.csv:3: label 'nan' may be a missing label.*label_missing: \[\] if it is a class"),
        (["a", ""], r"rows.csv:3: 'label' is to be a class.*label_missing: \[\"\"\]"),
    ],
)
def test_what_may_mean_two_things_is_refused_with_its_line(tmp_path: Path, labels: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        built(table(tmp_path, labels), tmp_path)


@pytest.mark.parametrize(
    ("labels", "options", "names", "numbers"),
    [
        (["1", "1.0", "01", "0"], {"label_type": "integer"}, ("0", "1"), [1, 1, 1, 0]),
        (["1", "1.0"], {"label_type": "text"}, ("1", "1.0"), [0, 1]),
        (["0", "-1", "1", "-1"], {"label_missing": ["-1"]}, ("0", "1"), [0, 1]),
        (["0", "-1", "1"], {"label_missing": []}, ("-1", "0", "1"), [1, 0, 2]),
        (["-2", "-1", "0", "1"], {}, ("-2", "-1", "0", "1"), [0, 1, 2, 3]),
        (["-1", "1"], {}, ("-1", "1"), [0, 1]),
        (["0.0", "1.0"], {}, ("0.0", "1.0"), [0, 1]),
        (["none", "neutral"], {}, ("neutral", "none"), [1, 0]),
    ],
)
def test_options_settle_it(
    tmp_path: Path, labels: list[str], options: dict[str, Any], names: tuple[str, ...], numbers: list[int]
) -> None:
    assert learned(table(tmp_path, labels, **options), tmp_path) == (names, numbers)


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    cache = built(objects(tmp_path, ["a", None, "b", None], label_missing=["null"]), tmp_path)
    assert (cache.num_documents, cache.report["unlabelled_documents"]) == (2, 2)
    with pytest.raises(DataError, match="no document has a label"):
        built(objects(tmp_path, [None, None], label_missing=["null"]), tmp_path)


def test_classes_that_are_known_need_no_option(tmp_path: Path) -> None:
    cache = built(table(tmp_path, ["1.0", "1"]), tmp_path, ("1", "1.0"))
    assert np.asarray(cache.labels).tolist() == [1, 0]
    with pytest.raises(DataError, match=r"label '-1' is not known.*label_missing: \[\"-1\"\]"):
        built(table(tmp_path, ["0", "-1"]), tmp_path, ("0", "1"))


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (objects, [[1, 0, 1], [0, 0, 1], [0, 0, 0]]),
        (objects, [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        (objects, [[True, False, True], [False, False, True], [False, False, False]]),
        (table, ["1,0,1", "0,0,1", "0,0,0"]),
        (table, ["[1, 0, 1]", "[0, 0, 1]", "[0, 0, 0]"]),
        (parquet, [[1, 0, 1], [0, 0, 1], [0, 0, 0]]),
    ],
)
def test_multi_hot_labels(tmp_path: Path, make: Any, labels: list[Any]) -> None:
    flags = [[1, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert learned(make(tmp_path, labels, label_kind="multi_hot"), tmp_path) == (("0", "1", "2"), flags)
    with pytest.raises(DataError, match="label_kind: multi_hot"):
        built(make(tmp_path, labels, label_kind="many"), tmp_path)
    named = built(make(tmp_path, labels, label_kind="multi_hot"), tmp_path, ("x", "y", "z"))
    assert named.label_names == ("x", "y", "z")


def test_multi_hot_lists_are_equally_long(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows.jsonl:2: wanted 0 or 1 for each of 2 classes; got 3"):
        built(objects(tmp_path, [[1, 0], [0, 0, 1]], label_kind="multi_hot"), tmp_path)
    with pytest.raises(DataError, match=r"rows.jsonl:1: 'label' is to be a list of 0 and 1"):
        built(objects(tmp_path, [[2, 0]], label_kind="multi_hot"), tmp_path)


@pytest.mark.parametrize(
    "value", ["1_000", "1e39", "-4e38", "1e-60", "nan", "inf", "٣", "1e9999999999999999999", "", True]
)
def test_numbers_that_cannot_be_kept_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is to be a"):
        read_number(value)


@settings(max_examples=60, deadline=None)
@given(value=st.text(max_size=12) | st.floats() | st.integers() | st.none() | st.booleans() | st.lists(st.integers()))
def test_any_value_is_a_label_or_politely_none(value: Any) -> None:
    for read in (read_number, lambda it: read_class(it, "integer", None), lambda it: read_class(it, None, ["a"])):
        with contextlib.suppress(ValueError):
            assert read(value) == read(value)


def test_numbers_are_read_as_written() -> None:
    assert [read_number(text) for text in (" 1.5 ", "-2e-3", ".5", "3.", 7, 0.25)] == [1.5, -0.002, 0.5, 3.0, 7.0, 0.25]
    with pytest.raises(ValueError, match="label_type: integer"):
        read_class("1e400", "integer", None)


def test_parquet_keeps_the_names_of_its_classes(tmp_path: Path) -> None:
    features = {"names": ["neg", "pos", "unseen"], "_type": "ClassLabel"}
    assert learned(parquet(tmp_path, [1, 0], features), tmp_path) == (("neg", "pos", "unseen"), [1, 0])
    nested = {"feature": features, "_type": "List"}
    many = parquet(tmp_path, [[1, 0], []], nested, label_kind="many")
    assert learned(many, tmp_path) == (("neg", "pos", "unseen"), [[1, 1, 0], [0, 0, 0]])
    with pytest.raises(DataError, match=r"rows.parquet:1: 'label' is to be one of the 3 classes .*; got 7"):
        built(parquet(tmp_path, [7, 0], features), tmp_path)
    hidden = parquet(tmp_path, [-1, -1], features)
    assert withholds_labels(hidden, ("neg", "pos", "unseen"))
    assert not withholds_labels(parquet(tmp_path, [-1, 1], features), ("neg", "pos", "unseen"))
    other = parquet(tmp_path, [0], {"names": ["pos", "neg"], "_type": "ClassLabel"}, name="other")
    first = parquet(tmp_path, [0], features)
    with pytest.raises(DataError, match="declare different classes"):
        list(Parquet(path=[str(first.path), str(other.path)], label="label").documents())


def test_categories_and_types_of_parquet(tmp_path: Path) -> None:
    categories = pa.array(["low", "high", "low"]).dictionary_encode()
    assert learned(parquet(tmp_path, categories), tmp_path) == (("high", "low"), [1, 0, 1])
    with pytest.raises(DataError, match=r"'label' is to be a class .*label_type: integer"):
        built(parquet(tmp_path, [1.0, 0.0]), tmp_path)
    pyarrow.parquet.write_table(pa.table({"text": [b"a"]}), tmp_path / "bytes.parquet")
    with pytest.raises(DataError, match=r"bytes.parquet: column 'text' is to hold text \(string\); its type is binary"):
        list(Parquet(path=str(tmp_path / "bytes.parquet")).documents())


def test_saved_datasets_keep_the_order_of_their_classes(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset

    data = Dataset.from_dict({"text": ["A", "C"], "label": [1, 0]})
    data = data.cast_column("label", ClassLabel(names=["si", "no", "unseen"]))
    data.save_to_disk(tmp_path / "one")
    source = SavedDataset(path=str(tmp_path / "one"), label="label")
    assert learned(source, tmp_path) == (("si", "no", "unseen"), [1, 0])
