"""Training data that are streamed: the same documents as the files hold, the same steps from any step on."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import DataError
from instar.data import Batch
from instar.data.fingerprint import stream_fingerprint
from instar.data.samples import Cut
from instar.data.source import Csv, Fasta, JsonLines, Parquet, Source, Text
from instar.data.streaming import BlockCaches, CorpusStream, Position, Reader, StreamedCorpus, Streaming, first_texts
from instar.data.tokenizer import Character, Tokenizer, build_tokenizer

TEXTS = [f"text {number} " + "ab " * (number % 7) for number in range(60)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(Character(), lambda: iter(TEXTS))


def write_jsonl(folder: Path, texts: list[str], files: int) -> JsonLines:
    """The texts over some files, in order."""
    paths = []
    for number, part in enumerate(np.array_split(np.array(texts, dtype=object), files)):
        paths.append(folder / f"{number}.jsonl")
        paths[-1].write_text("".join(json.dumps({"text": text}) + "\n" for text in part))
    return JsonLines(path=[str(path) for path in paths])


def stream_of(
    source: Source, tokenizer: Tokenizer, folder: Path, *, documents: int = 7, seed: int = 3, **size: int | None
) -> CorpusStream:
    fingerprint = stream_fingerprint(source, tokenizer, None)
    caches = BlockCaches(source=source, tokenizer=tokenizer, folder=folder, labels=None, fingerprint=fingerprint)
    corpus = StreamedCorpus.of(caches, Streaming(documents=documents))
    sizes = {"batch_tokens": None, "batch_samples": None, "max_samples": None} | size
    return CorpusStream(corpus, Cut(layout="none", max_length=9, too_long="window"), seed=seed, **sizes)


def equal(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.ids_T, other.ids_T)
        and one.lengths == other.lengths
        and one.samples_D.tolist() == other.samples_D.tolist()
        and one.epochs_D.tolist() == other.epochs_D.tolist()
    )


def passes(batches: Iterator[Batch], epoch: int) -> Counter[tuple[int, ...]]:
    """The samples of one pass, by their ids."""
    found: Counter[tuple[int, ...]] = Counter()
    numbers: list[int] = []
    for batch in batches:
        for document in range(len(batch)):
            if batch.epochs_D[document] == epoch:
                one = batch.select([document])
                found[tuple(one.ids_T.tolist())] += 1
                numbers.append(int(one.samples_D[0]))
    assert sorted(numbers) == list(range(len(numbers)))
    return found


@pytest.mark.parametrize("size", [{"batch_samples": 4}, {"batch_tokens": 40}, {"batch_tokens": 3}])
def test_each_pass_has_every_sample_once_in_another_order(
    tokenizer: Tokenizer, tmp_path: Path, size: dict[str, int]
) -> None:
    source = write_jsonl(tmp_path, TEXTS, 3)
    stream = stream_of(source, tokenizer, tmp_path / "cache", **size)
    batches = []
    for batch in stream.steps():
        batches.append(batch)
        if batch.epochs_D.max() == 2:
            break
    first, second = passes(iter(batches), 0), passes(iter(batches), 1)
    assert first == second
    orders = [[int(n) for b in batches for n, e in zip(b.samples_D, b.epochs_D, strict=True) if e == k] for k in (0, 1)]
    assert orders[0] != orders[1]
    assert sum(first.values()) > len(TEXTS)  # some are windows
    whole = stream_of(source, tokenizer, tmp_path / "cache", documents=1000, batch_samples=1)
    assert passes(islice(whole.steps(), sum(first.values())), 0) == first
    if "batch_samples" in size:
        assert {len(batch) for batch in batches} == {4}
    else:
        assert all(batch.num_tokens <= size["batch_tokens"] or len(batch) == 1 for batch in batches)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_resumed_stream_gives_the_steps_that_would_have_followed(
    tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    documents, stop = data.draw(st.integers(1, 70)), data.draw(st.integers(0, 60))
    files, tokens = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 60))
    folder = tmp_path_factory.mktemp("stream")
    source = write_jsonl(folder, TEXTS, files)

    def made() -> CorpusStream:
        return stream_of(source, tokenizer, folder / "cache", documents=documents, batch_tokens=tokens)

    whole = made()
    ahead = list(islice(whole.steps(), stop + 12))  # the stream is ahead of the step that is saved
    samples = sum(len(batch) for batch in ahead[:stop])
    again = made()
    again.resume(whole.position(samples))
    found = list(islice(again.steps(samples), 12))
    assert all(equal(one, other) for one, other in zip(found, ahead[stop:], strict=True))


def test_a_budget_of_samples_ends_exactly(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, TEXTS, 2)
    for size in ({"batch_samples": 4}, {"batch_tokens": 25}):
        stream = stream_of(source, tokenizer, tmp_path / "cache", max_samples=101, **size)
        assert sum(len(batch) for batch in stream.steps()) == 101


def test_files_before_the_position_are_not_opened(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, TEXTS, 3)
    reader = Reader(source)
    blocks = [position for _, position in reader.blocks(Position(), 8)]
    (tmp_path / "0.jsonl").write_text("not JSON")
    position = next(one for one in blocks if one.file == 1 and one.document)
    rest = [document.text for block, _ in reader.blocks(position, 8) for document in block]
    assert rest == TEXTS[20 + position.document :]
    with pytest.raises(DataError, match=r"0\.jsonl:1"):
        list(reader.documents(0, 0))


def test_every_kind_of_source_gives_its_documents(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    (tmp_path / "x.txt").write_text("\n\n".join(TEXTS))
    (tmp_path / "x.csv").write_text("text\n" + "\n".join(TEXTS) + "\n")
    (tmp_path / "x.fa").write_text(">a\nACGTNNACGT\n>b\nGGGG\n")
    pa.parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "x.parquet")
    kinds = (("txt", Text), ("csv", Csv), ("fa", Fasta), ("parquet", Parquet))
    for ending, kind in kinds:
        source = kind(path=str(tmp_path / f"x.{ending}"))
        read = [document for block, _ in Reader(source).blocks(Position(), 2) for document in block]
        assert read == list(source.documents())
        block, position = next(Reader(source).blocks(Position(), 2))
        rest = [document for part, _ in Reader(source).blocks(position, 2) for document in part]
        assert block + rest == read
        assert list(first_texts(source, Streaming(documents=2))) == [source.normalized(one.text) for one in read[:2]]


def test_a_corpus_without_text_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, [" ", ""], 1)
    with pytest.raises(DataError, match="no document has any text"):
        stream_of(source, tokenizer, tmp_path / "cache", batch_samples=2)


def test_blocks_without_text_are_passed_over(tokenizer: Tokenizer, tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, ["", " ", "", "a b", "", "", "c d"], 1)
    stream = stream_of(source, tokenizer, tmp_path / "cache", documents=2, batch_samples=1)
    batches = list(islice(stream.steps(), 6))
    assert [batch.samples_D.tolist() for batch in batches] == [[0], [1]] * 3
    assert [batch.epochs_D.tolist() for batch in batches] == [[0], [0], [1], [1], [2], [2]]


def test_nothing_is_left_on_the_disk(tokenizer: Tokenizer, tmp_path: Path) -> None:
    stream = stream_of(write_jsonl(tmp_path, TEXTS, 2), tokenizer, tmp_path / "cache", batch_samples=3)
    list(islice(stream.steps(), 9))
    assert not list((tmp_path / "cache").iterdir())


def test_the_end_of_a_pass_is_logged(tokenizer: Tokenizer, tmp_path: Path) -> None:
    stream = stream_of(write_jsonl(tmp_path, ["a", "b", "c"], 1), tokenizer, tmp_path / "cache", batch_samples=2)
    lines: list[str] = []
    stream.log = lines.append
    list(islice(stream.steps(), 2))
    assert lines == ["data.train: pass 1 ends after 3 samples; the next one begins"]


def test_another_file_is_another_stream(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path, TEXTS, 2)
    before = stream_fingerprint(source)
    moved = [Path(path).rename(tmp_path / f"moved{number}.jsonl") for number, path in enumerate(source.path)]
    assert stream_fingerprint(JsonLines(path=[str(path) for path in moved])) == before
    with moved[1].open("a") as file:
        file.write('{"text": "more"}\n')
    assert stream_fingerprint(JsonLines(path=[str(path) for path in moved])) != before
