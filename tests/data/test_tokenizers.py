"""Tokenizers: exact offsets, equal after a restart, loadable by Transformers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from instar.core.errors import DataError, InputMissingError
from instar.data.tokenizer import Tokenizer, TokenizerConfig, build_tokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog.",
    "Él comió café con niño; Ünïcödé ﬁne — 東京 🙂👩‍👩‍👧.",
    "ACGTACGTTTGACCA ACGTNNACGT",
    "it is what it is, and it was what it was; the the the of of and",
] * 4
KINDS = {
    "wordpiece": {"kind": "wordpiece", "vocab_size": 200},
    "cased": {"kind": "wordpiece", "vocab_size": 200, "lowercase": False},
    "bpe": {"kind": "bpe", "vocab_size": 300, "end_of_text": "<|endoftext|>"},
    "unigram": {"kind": "unigram", "vocab_size": 120},
    "character": {"kind": "character", "max_size": 60},
    "kmer": {"kind": "kmer", "k": 3},
    "overlapping": {"kind": "kmer", "k": 4, "stride": 1},
    "stride_two": {"kind": "kmer", "k": 3, "stride": 2},
}
CONFIGS: TypeAdapter[object] = TypeAdapter(TokenizerConfig)
_made: dict[str, Tokenizer] = {}


def make(name: str) -> Tokenizer:
    if name not in _made:
        _made[name] = build_tokenizer(CONFIGS.validate_python(KINDS[name]), lambda: iter(CORPUS))  # type: ignore[arg-type]
    return _made[name]


def check_tiles(text: str, ids: np.ndarray, ends: np.ndarray) -> None:
    assert len(ids) == len(ends)
    assert ends.dtype == np.uint32
    steps = np.diff(ends.astype(np.int64), prepend=0)
    assert (steps >= 0).all()
    if len(ids):
        assert ends[-1] == len(text)
        starts = ends.astype(np.int64) - steps
        assert "".join(text[a:b] for a, b in zip(starts, ends, strict=True)) == text


TEXT = st.text(max_size=60) | st.lists(
    st.sampled_from(["the", " ", "É", "e\u0301", "🙂", "ACGTN", "\n", "\t", "[MASK]", "fox", "ﬁ", "İ", "ß", "\u200d"]),
    max_size=20,
).map("".join)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=100, deadline=None)
@given(text=TEXT)
def test_offsets_tile_the_text(name: str, text: str) -> None:
    tokenizer = make(name)
    (encoded,) = tokenizer.encode_batch([text])
    check_tiles(text, encoded.ids, encoded.ends)
    assert (encoded.ids < tokenizer.vocab_size).all()
    held = tokenizer.special_ids - {tokenizer.unk_id}
    assert not set(encoded.ids.tolist()) & held  # data cannot forge special tokens


@pytest.mark.parametrize("name", ["bpe", "character", "kmer", "overlapping", "stride_two"])
def test_decoding_gives_the_text_back(name: str) -> None:
    tokenizer = make(name)
    text = "ACGTACGTTTGACCA"
    assert tokenizer.decode(tokenizer.encode_batch([text])[0].ids) == text


@given(text=st.text(max_size=60))
@settings(deadline=None)
def test_bytes_are_never_unknown(text: str) -> None:
    tokenizer = make("bpe")
    assert tokenizer.decode(tokenizer.encode_batch([text])[0].ids) == text


def test_where_characters_without_a_token_go() -> None:
    (encoded,) = make("cased").encode_batch(["  the  fox the "])
    tokens = make("cased").tokens(encoded.ids)
    assert tokens[0] == "the"
    assert encoded.ends[0] == 5
    assert encoded.ends[-1] == 15


def test_a_character_of_several_tokens_belongs_to_the_first() -> None:
    (encoded,) = make("bpe").encode_batch(["\U0001f9ff"])
    assert len(encoded.ids) > 1
    assert encoded.ends.tolist() == [1] * len(encoded.ids)


def test_special_tokens_follow_one_rule() -> None:
    for name in KINDS:
        tokenizer = make(name)
        assert tokenizer.tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id, tokenizer.mask_id)
        assert ids == (0, 1, 2, 3, 4)
        assert (tokenizer.bos_id, tokenizer.eos_id) == ((5, 5) if name == "bpe" else (2, 3))
        assert tokenizer.special_ids == frozenset(range(6 if name == "bpe" else 5))
        assert tokenizer.decode([2, 3, 4]) == ""


@pytest.mark.parametrize("name", KINDS)
def test_saved_and_loaded_is_the_same(tmp_path: Path, name: str) -> None:
    tokenizer = make(name)
    tokenizer.save(tmp_path / "a", "encoder")
    once = Tokenizer.load(tmp_path / "a")
    once.save(tmp_path / "b")
    twice = Tokenizer.load(tmp_path / "b")
    assert tokenizer.fingerprint == once.fingerprint == twice.fingerprint
    for first, second in zip(tokenizer.encode_batch(CORPUS), twice.encode_batch(CORPUS), strict=True):
        assert (first.ids == second.ids).all()
        assert (first.ends == second.ends).all()
    same = [
        name for name in (tmp_path / "a").iterdir() if name.read_bytes() != (tmp_path / "b" / name.name).read_bytes()
    ]
    assert not same


@pytest.mark.parametrize("name", [name for name in KINDS if name not in ("overlapping", "stride_two")])
def test_transformers_reads_the_same_tokenizer(tmp_path: Path, name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = make(name)
    tokenizer.save(tmp_path, "encoder")
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    texts = [*CORPUS, "acgtnACGTA", "", "x", "A\nC G"]
    for text, ours in zip(texts, tokenizer.encode_batch(texts), strict=True):
        assert theirs(text, add_special_tokens=False)["input_ids"] == ours.ids.tolist(), text
        assert theirs(text)["input_ids"] == [2, *ours.ids.tolist(), 3]
    assert (theirs.mask_token_id, theirs.pad_token_id, theirs.unk_token_id) == (4, 0, 1)
    assert len(theirs) == tokenizer.vocab_size


@settings(max_examples=60, deadline=None)
@given(text=st.text("ACGTNacgtnR\n", max_size=40))
@pytest.mark.parametrize("name", ["character", "kmer"])
def test_fast_paths_equal_the_library(name: str, text: str) -> None:
    tokenizer = make(name)
    backend = tokenizer.codec.backend()
    backend.encode_special_tokens = True
    (ours,) = tokenizer.encode_batch([text])
    theirs = backend.encode(text, add_special_tokens=False)
    assert theirs.ids == ours.ids.tolist()
    assert [end for _, end in theirs.offsets] == ours.ends.tolist()


@given(st.text("ACGTNacgt", max_size=40), st.integers(1, 5), st.data())
@settings(deadline=None)
def test_kmers_by_hand(text: str, k: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, k))
    tokenizer = build_tokenizer(CONFIGS.validate_python({"kind": "kmer", "k": k, "stride": stride}), lambda: iter(()))  # type: ignore[arg-type]
    (encoded,) = tokenizer.encode_batch([text])
    wanted = [text[at : at + k].upper() for at in range(0, len(text) - k + 1, stride)]
    wanted = ["[UNK]" if "N" in word else word for word in wanted]
    ends = [k + stride * number for number in range(len(wanted))]
    if (ends[-1] if ends else 0) < len(text):
        wanted, ends = [*wanted, "[UNK]"], [*ends, len(text)]
    assert tokenizer.tokens(encoded.ids) == wanted
    assert encoded.ends.tolist() == ends


def test_the_most_frequent_characters_stay() -> None:
    config = CONFIGS.validate_python({"kind": "character", "max_size": 2})
    tokenizer = build_tokenizer(config, lambda: iter(["bbbaac", "c"]))  # type: ignore[arg-type]
    assert tokenizer.tokens(range(5, tokenizer.vocab_size)) == ["a", "b"]
    assert tokenizer.encode_batch(["abc"])[0].ids.tolist() == [5, 6, 1]


SCRIPT = """
import json, sys
from pydantic import TypeAdapter
from instar.data.tokenizer import TokenizerConfig, build_tokenizer
corpus, kinds = json.load(sys.stdin)
for config in kinds:
    built = build_tokenizer(TypeAdapter(TokenizerConfig).validate_python(config), lambda: iter(corpus))
    print(built.fingerprint)
"""


def test_training_is_the_same_in_another_process() -> None:
    names = ["wordpiece", "bpe", "character"]
    asked = json.dumps([CORPUS, [KINDS[name] for name in names]])
    done = subprocess.run([sys.executable, "-c", SCRIPT], input=asked, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [make(name).fingerprint for name in names]


def test_fingerprints_tell_options_apart() -> None:
    assert len({make(name).fingerprint for name in KINDS}) == len(KINDS)


def word_list(folder: Path) -> None:
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nfox\n##es\n")


def test_vocab_txt(tmp_path: Path) -> None:
    word_list(tmp_path)
    tokenizer = build_tokenizer(CONFIGS.validate_python({"from": str(tmp_path)}), lambda: iter(()))  # type: ignore[arg-type]
    assert tokenizer.tokens(tokenizer.encode_batch(["The foxes"])[0].ids) == ["the", "fox", "##es"]
    assert (tokenizer.cls_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id) == (2, 2, 3, 4)


def test_vocab_json_and_merges(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.encode_batch(["abba"])[0].ids.tolist() == [2, 1, 0]
    assert (tokenizer.eos_id, tokenizer.mask_id, tokenizer.pad_id) == (3, None, None)
    tokenizer.save(tmp_path / "own")
    assert Tokenizer.load(tmp_path / "own").fingerprint == tokenizer.fingerprint


def test_the_published_vocabularies(reference_data: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(reference_data("tokenizers/bert_base_uncased_vocab.txt").read_bytes())
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 30522
    assert tokenizer.encode_batch(["Hello, World!"])[0].ids.tolist() == [7592, 1010, 2088, 999]
    assert (tokenizer.pad_id, tokenizer.cls_id, tokenizer.mask_id) == (0, 101, 103)


def damaged(tmp_path: Path, name: str, text: str) -> Path:
    make("bpe").save(tmp_path)
    (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("instar_tokenizer.json", "{"),
        ("instar_tokenizer.json", "[]"),
        ("instar_tokenizer.json", '{"format": 99}'),
        ("instar_tokenizer.json", '{"format": 1, "codec": "kmer", "options": {}, "specials": {}}'),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "not json"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        Tokenizer.load(damaged(tmp_path, name, text))


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    folder = damaged(tmp_path, "x", "")
    text = (folder / "tokenizer.json").read_text()
    assert '"dropout":null' in text.replace(" ", "")
    (folder / "tokenizer.json").write_text(text.replace("Ġthe", "Ġtha"))
    with pytest.raises(DataError):
        Tokenizer.load(folder)


def test_folders_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tokenizer here"):
        Tokenizer.load(tmp_path)
    with pytest.raises(InputMissingError, match="no such folder"):
        Tokenizer.load(tmp_path / "x")


def test_no_text_makes_no_tokenizer() -> None:
    for name in ("wordpiece", "bpe", "unigram", "character"):
        with pytest.raises(DataError, match="every document is empty"):
            build_tokenizer(CONFIGS.validate_python(KINDS[name]), lambda: iter(["", ""]))  # type: ignore[arg-type]


def test_bad_options() -> None:
    with pytest.raises(ValidationError, match="stride may be at most k"):
        CONFIGS.validate_python({"kind": "kmer", "k": 3, "stride": 4})
    with pytest.raises(ValidationError):
        CONFIGS.validate_python({"kind": "bpe", "vocab_size": 100})
    with pytest.raises(ValidationError):
        CONFIGS.validate_python({"from": "x", "vocab_size": 5})
