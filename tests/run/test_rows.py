"""Rows of answers: each says which record, and which part of it, it is an answer about."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from instar.core.errors import DataError
from instar.data import Cut, Samples, build_cache
from instar.data.source import Csv, Fasta, Parquet, SourceBase, Text
from instar.data.tokenizer import Kmer, build_tokenizer
from instar.data.unknown import TokenCount
from instar.run.rows import Answers, record_of
from instar.use.predict import predict
from tests.run.conftest import Workshop

Row = dict[str, Any]
ONE_BASE = build_tokenizer(Kmer(k=1), lambda: iter(()))


def lengths(texts: Iterable[str]) -> Iterator[Row]:
    """An answer that is easy to know; a text of more than ten characters is cut."""
    for number, text in enumerate(texts):
        answer: Row = {"length": len(text)} if text else {"skipped": "the text has no token"}
        yield {"row": number, **answer, **({"truncated": True, "read_characters": 10} if len(text) > 10 else {})}


def rows(source: SourceBase) -> list[Row]:
    return list(Answers(source, ONE_BASE, TokenCount(), allow_unknown=False).rows(lengths))


def test_every_record_has_a_row_with_its_coordinates(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">first\nACGTNACGTA\n>second\nACGUACGTACGTAC\n>third words\nNNnN\n")
    found = rows(Fasta(path=str(path)))
    shown = [(row["row"], row["line"], row["record"], row["start"], row["end"]) for row in found]
    assert shown == [(0, 1, "first", 0, 4), (1, 1, "first", 5, 10), (2, 3, "second", 0, 10), (3, 5, "third", 0, 4)]
    assert found[2]["truncated"]
    assert "length" not in found[3]
    assert "nothing but N" in found[3]["skipped"]
    assert {row["file"] for row in found} == {str(path)}


def test_rows_of_tables_and_texts_have_the_line_they_began_at(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text\n"one\ntwo"\n\n""\nfour\n')
    (tmp_path / "b.txt").write_text("one\n\nthree\n")
    pyarrow.parquet.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "c.parquet")
    assert [row["line"] for row in rows(Csv(path=str(tmp_path / "a.csv")))] == [2, 5, 6]
    assert [row["line"] for row in rows(Text(path=str(tmp_path / "b.txt"), separation="line"))] == [1, 2, 3]
    assert [row["table_row"] for row in rows(Parquet(path=str(tmp_path / "c.parquet")))] == [1, 2]


def test_a_sample_knows_its_part_of_a_record(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">first\nNNACGTACGTAC\n>second\nACG\n")
    cache = build_cache(Fasta(path=str(path)), ONE_BASE, tmp_path / "caches")
    samples = Samples(cache, ONE_BASE, Cut(max_length=8, too_long="window", overlap=2))
    found = [tuple(record_of(samples, number).values()) for number in range(len(samples))]
    assert found == [("first", 2, 8), ("first", 6, 12), ("second", 0, 3)]
    plain = build_cache(Text(path=str(path), separation="line"), ONE_BASE, tmp_path / "caches")
    assert record_of(Samples(plain, ONE_BASE, Cut()), 0) == {}


def test_u_is_counted_and_most_tokens_unknown_is_refused_after_the_last_row(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">r\nACGUuu\n")
    count = TokenCount()
    answers = Answers(Fasta(path=str(path)), ONE_BASE, count, allow_unknown=False)
    assert len(list(answers.rows(lengths))) == 1
    assert answers.facts()["u_read_as_t"] == 3
    count.tokens, count.unknown = 10, 5
    with pytest.raises(DataError, match="5 of 10 tokens"):
        list(answers.rows(lengths))


def test_predictions_on_a_genome_of_a_model_of_words(
    trained: Callable[[str], tuple[Workshop, dict[str, Any]]], tmp_path: Path
) -> None:
    _, summary = trained("classify")
    fasta, output = tmp_path / "x.fa", tmp_path / "rows.jsonl"
    fasta.write_text(">first\nACGTNACGT\n>second\nACGT\n>third\nNNNN\n")
    with pytest.raises(DataError, match=r"unknown to the tokenizer.*--allow-unknown-tokens"):
        predict(Path(summary["checkpoint"]), input_file=fasta, output=output)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.fa"]
    told = predict(Path(summary["checkpoint"]), input_file=fasta, output=output, allow_unknown=True)
    assert (told["rows"], told["skipped"]) == (4, 1)
    assert told["unknown_share"] >= 0.5
    assert told["warning"].startswith("warning: ")
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["record"] for row in written] == ["first", "first", "second", "third"]
    assert all(("prediction" in row) != ("skipped" in row) for row in written)
