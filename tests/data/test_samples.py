"""Samples: what the vectorised gather gives is what a plain loop gives; nothing leaks, nothing is lost."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.core.errors import ConfigError, DataError
from instar.data.cache import TokenCache, build_cache
from instar.data.samples import Cut, Samples
from instar.data.source import Csv, Text
from instar.data.tokenizer import Character, Tokenizer, build_tokenizer

CLS, SEP = 2, 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer(Character(), lambda: iter(["abcdefghij"]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TokenCache:
    folder = tmp_path_factory.mktemp("corpus")
    words = ["abcdefghij"[: 1 + n % 10] * (1 + n % 7) for n in range(60)] + ["zab"]
    (folder / "a.txt").write_text("\n".join(words))
    return build_cache(Text(path=str(folder / "a.txt"), separation="line"), tokenizer, folder / "cache")


def content(cache: TokenCache, document: int) -> list[int]:
    return cache.ids[cache.offsets[document] : cache.offsets[document + 1]].tolist()


def by_hand(cache: TokenCache, cut: Cut) -> list[list[int]]:
    """The samples of whole documents, written as plainly as can be."""
    found = []
    for document in range(cache.num_documents):
        tokens = content(cache, document)
        if cut.layout == "decoder":
            tokens = [CLS] * cut.bos + tokens + [SEP]
        room = (cut.max_length or 10**9) - 2 * (cut.layout == "encoder")
        windows = [tokens[:room]]
        start = 0
        while cut.too_long == "window" and start + room < len(tokens):
            start += room - cut.overlap
            windows.append(tokens[start : start + room])
        found += [[CLS, *window, SEP] if cut.layout == "encoder" else window for window in windows]
    return found


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_gather_equals_a_plain_loop(built: TokenCache, tokenizer: Tokenizer, data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(["encoder", "decoder", "none"]))
    too_long = data.draw(st.sampled_from(["truncate", "window"]))
    max_length = data.draw(st.integers(4, 30) | st.just(200))
    overlap = data.draw(st.integers(0, max_length - 3)) if too_long == "window" else 0
    bos = data.draw(st.booleans()) and layout == "decoder"
    cut = Cut(layout=layout, too_long=too_long, max_length=max_length, overlap=overlap, bos=bos)
    samples, wanted = Samples(built, tokenizer, cut), by_hand(built, cut)
    assert len(samples) == len(wanted)
    index = np.array(data.draw(st.lists(st.integers(0, len(wanted) - 1), min_size=1, max_size=20)))
    batch = samples.gather(index, np.zeros(len(index), dtype=np.int64))
    assert batch.ids_T.tolist() == [token for number in index for token in wanted[number]]
    assert list(batch.lengths) == [len(wanted[number]) for number in index] == samples.lengths(index).tolist()
    assert max(batch.lengths) <= max_length
    assert batch.maskable_T is not None
    assert batch.maskable_T.tolist() == [token >= 5 for token in batch.ids_T.tolist()]
    places = samples.store_paths(index)
    assert (built.ids[places[places >= 0]] == batch.ids_T.numpy()[places >= 0]).all()
    characters = samples.characters(index)
    assert characters.tolist() == [int(place >= 0) for place in places]  # this tokenizer: one character a token


@pytest.mark.parametrize("too_long", ["window", "truncate"])
def test_the_report_counts(built: TokenCache, tokenizer: Tokenizer, too_long: str) -> None:
    samples = Samples(built, tokenizer, Cut(max_length=12, too_long=too_long))  # type: ignore[arg-type]
    long = [len(content(built, number)) for number in range(61) if len(content(built, number)) > 10]
    assert samples.report["samples"] == len(samples)
    if too_long == "window":
        assert samples.report["windowed"] == len(long)
    else:
        assert (samples.report["truncated"], samples.report["cut_tokens"]) == (len(long), sum(long) - 10 * len(long))


def test_too_long_is_an_error_with_counts(built: TokenCache, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match=r"of 61 documents are longer than max_length 12 \(the longest has 65 tokens"):
        Samples(built, tokenizer, Cut(max_length=12))


def test_bad_cuts(built: TokenCache, tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="max_length: wanted more than the 2 special tokens"):
        Samples(built, tokenizer, Cut(max_length=2))
    with pytest.raises(ConfigError, match="overlap: wanted 0 to 7"):
        Samples(built, tokenizer, Cut(max_length=10, overlap=8, too_long="window"))
    for fraction in (0.0, 1.0):
        with pytest.raises(ConfigError, match="above 0 and below 1"):
            Samples(built, tokenizer, Cut()).split(fraction, 0)


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
@pytest.mark.parametrize("batch_tokens", [1, 40, 10**6])
def test_evaluation_sees_everything_once(
    built: TokenCache, tokenizer: Tokenizer, batch_tokens: int, shares: int
) -> None:
    samples = Samples(built, tokenizer, Cut(max_length=20, too_long="window"))
    seen = []
    for rank in range(shares):
        for batch in samples.batches(batch_tokens, rank=rank, shares=shares):
            assert batch.num_tokens <= batch_tokens or len(batch) == 1
            seen += batch.samples_D.tolist()
    assert seen == list(range(len(samples)))


def test_whole_documents_are_held_out(built: TokenCache, tokenizer: Tokenizer) -> None:
    samples = Samples(built, tokenizer, Cut())
    rest, held = samples.split(0.2, 1)
    documents = [part.documents(np.arange(len(part))).tolist() for part in (rest, held)]
    assert len(held) == 12
    assert sorted(documents[0] + documents[1]) == list(range(61))
    assert documents[1] == samples.split(0.2, 1)[1].documents(np.arange(12)).tolist()
    assert documents[1] != samples.split(0.2, 2)[1].documents(np.arange(12)).tolist()
    again, test = rest.split(0.5, 3)
    parts = [set(part.documents(np.arange(len(part))).tolist()) for part in (again, test, held)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 61


@settings(deadline=None, max_examples=40)
@given(fraction=st.floats(0.03, 0.6), seed=st.integers(0, 99), overlap=st.integers(0, 5))
def test_blocks_share_no_token(
    book: TokenCache, tokenizer: Tokenizer, fraction: float, seed: int, overlap: int
) -> None:
    samples = Samples(book, tokenizer, Cut(max_length=18, too_long="window", overlap=overlap))
    places: list[Counter[int]] = []
    for part in samples.split(fraction, seed):
        every = np.arange(len(part))
        places.append(Counter(part.store_paths(every).tolist()))
        assert part.lengths(every).max() <= 18
        places[-1].pop(-1)
    assert not places[0].keys() & places[1].keys()
    assert len(places[0]) + len(places[1]) == book.num_tokens
    assert abs(len(places[1]) / book.num_tokens - fraction) < 0.02


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> TokenCache:
    folder = tmp_path_factory.mktemp("book")
    (folder / "a.txt").write_text("abcdefghij" * 97 + "\n\n" + "jihgf" * 31 + "\n\nab")
    return build_cache(Text(path=str(folder / "a.txt")), tokenizer, folder / "cache")


def test_too_little_to_hold_out(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "a.txt").write_text("abc")
    cache = build_cache(Text(path=str(tmp_path / "a.txt")), tokenizer, tmp_path / "cache")
    with pytest.raises(DataError, match="one document only"):
        Samples(cache, tokenizer, Cut()).split(0.1, 0)
    with pytest.raises(DataError, match="too little data"):
        Samples(cache, tokenizer, Cut(max_length=100, too_long="window")).split(0.1, 0)


@pytest.mark.parametrize(
    ("kind", "cells", "wanted", "names"),
    [
        ("class", ["b", "a", "b"], torch.tensor([1, 0, 1]), ("a", "b")),
        ("class", ["10", "9", "9"], torch.tensor([1, 0, 0]), ("9", "10")),
        ("number", ["1.5", "-2", "0"], torch.tensor([1.5, -2.0, 0.0]), None),
        ("many", ["b;a", "", "c"], torch.tensor([[1.0, 1, 0], [0, 0, 0], [0, 0, 1]]), ("a", "b", "c")),
    ],
)
def test_labels(  # noqa: PLR0917 (pytest passes them by name)
    tmp_path: Path, tokenizer: Tokenizer, kind: str, cells: list[str], wanted: torch.Tensor, names: object
) -> None:
    (tmp_path / "a.csv").write_text("text,y\n" + "".join(f"abc,{cell}\n" for cell in cells))
    source = Csv(path=str(tmp_path / "a.csv"), label="y", label_kind=kind, label_separator=";")  # type: ignore[arg-type]
    samples = Samples(build_cache(source, tokenizer, tmp_path / "cache"), tokenizer, Cut())
    assert samples.label_names == names
    labels = samples.gather(np.array([2, 0, 1]), np.zeros(3)).labels_D
    assert labels is not None
    assert labels.dtype == wanted.dtype
    assert torch.equal(labels, wanted[[2, 0, 1]])
