"""Tokenizers of folders make the ids that Transformers makes, or are refused with the first difference."""

import json
from pathlib import Path
from typing import Any

import pytest

from instar.core.errors import DataError
from instar.data.tokenizer import Tokenizer
from instar.data.tokenizer import folder as reading
from instar.data.tokenizer.fast import FastCodec

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "café", "中", "文", "中文", "the", "##s", "a\x85b"]
AMINO = "<cls> <pad> <eos> <unk> L A G V S E R T I D P K Q N F Y M H W C X B U Z O . - <null_1> <mask>".split()  # noqa: SIM905
MERS = [first + second for first in "ACGT" for second in "ACGT"]


def write(folder: Path, words: list[str], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"strip_accents": False}, ["café", "中", "文", "the", "##s"]),
        ({"strip_accents": True}, ["cafe", "中", "文", "the", "##s"]),
        ({"tokenize_chinese_chars": False}, ["cafe", "中文", "the", "##s"]),
    ],
)
def test_every_option_of_a_word_piece_folder_is_followed(
    tmp_path: Path, config: dict[str, Any], tokens: list[str]
) -> None:
    tokenizer = Tokenizer.load(write(tmp_path / "t", WORDS, tokenizer_class="BertTokenizer", **config))
    assert tokenizer.tokens(tokenizer.encode_batch(["Café 中文 thes"])[0].ids) == tokens
    assert tokenizer.vocab_size == len(WORDS), "a vocabulary is split at line ends only"


@pytest.mark.parametrize(
    ("words", "text", "tokens"),
    [
        (AMINO, "MKT jV", ["M", "K", "T", "<unk>", "V"]),
        (["<unk>", "<pad>", "<mask>", "<cls>", "<eos>", *MERS, "A", "C", "G", "T", "N"], "ACGTNAC", None),
    ],
)
def test_vocabularies_of_proteins_and_genomes(
    tmp_path: Path, words: list[str], text: str, tokens: list[str] | None
) -> None:
    import transformers

    folder = write(tmp_path / "t", words, tokenizer_class="EsmTokenizer")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.load(folder)
    encoded = tokenizer.encode_batch([text])[0]
    assert [tokenizer.cls_id, *encoded.ids.tolist(), tokenizer.sep_id] == theirs(text)["input_ids"]
    assert tokenizer.tokens(encoded.ids) == (tokens or ["AC", "GT", "N", "AC"])
    assert encoded.ends[-1] == len(text)
    tokenizer.save(tmp_path / "own", "encoder")
    assert Tokenizer.load(tmp_path / "own").fingerprint == tokenizer.fingerprint
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "own")(text)["input_ids"] == theirs(text)["input_ids"]


def test_a_difference_is_refused_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "t", WORDS, tokenizer_class="BertTokenizer")
    other = reading.reference_of(write(tmp_path / "o", WORDS, tokenizer_class="BertTokenizer", strip_accents=False), {})
    monkeypatch.setattr(reading, "backend_of", lambda _: other.backend_tokenizer)
    with pytest.raises(DataError, match=r"instar makes .* and Transformers .* from token"):
        Tokenizer.load(write(folder, [*WORDS, "quick", "naive"], tokenizer_class="BertTokenizer"))


def test_a_normalizer_that_doubles_a_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t", WORDS, tokenizer_class="BertTokenizer")
    tokenizer = Tokenizer.load(tmp_path / "t")
    tokenizer.save(tmp_path / "t", "encoder")
    (tmp_path / "t" / "instar_tokenizer.json").unlink()
    path = tmp_path / "t" / "tokenizer.json"
    doubles = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    normalizer = {"type": "Sequence", "normalizers": [doubles] * 30}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": normalizer}))
    with pytest.raises(DataError, match=r"times longer"):
        Tokenizer.load(tmp_path / "t")


def test_a_tokenizer_that_panics_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panics(*_: Any, **__: Any) -> None:
        raise PanicException("index out of bounds")

    folder = write(tmp_path / "t", WORDS, tokenizer_class="BertTokenizer")
    monkeypatch.setattr(reading, "reference_of", panics)
    with pytest.raises(DataError, match="index out of bounds"):
        Tokenizer.load(folder)
    codec = FastCodec.__new__(FastCodec)
    codec._backend = type("Backend", (), {"encode_batch": panics})()
    with pytest.raises(DataError, match="index out of bounds"):
        codec.encode(["a"])
