"""Transformers' own tokenizer of a folder, which instar's must agree with; no code of the folder's ever runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from instar.core.errors import DataError
from instar.data.tokenizer.fast import FastCodec
from instar.data.tokenizer.template import read_object

_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "encoder.json", "*.model")
_MAX_LABELS = 1_000_000
_PROBES = (
    "The QUICK Café, naïve Ångström's e\u0301 ﬁ ½ ① İstanbul ß",
    "中文字符 日本語テスト 한국어 العربية हिन्दी",
    "emoji 👩‍👩‍👧 🏳️‍🌈 and \u200bzero\ufeff width",
    "tabs\tand\nlines\r\n  runs   of    blanks \xa0\u2028 ",
    "control\x00\x07\x1c\x1f\x7f\x85 characters",
    "12345 3.14 1e-5 don't I'LL x_y-z (a) [b] {c} #d @e",
    "ACGTNACGTTGCAACGT acgtn MKTVLA",
)


def reference_of(folder: Path, config: dict[str, Any]) -> Any:
    """The tokenizer that Transformers makes of a folder; `config` is its configuration.

    DataError where there is none.
    """
    from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer, PreTrainedTokenizerFast

    if not any(any(folder.glob(name)) for name in _FILES):
        raise DataError(f"{folder}: no tokenizer here; wanted tokenizer.json, vocab.txt, or vocab.json and merges.txt")
    has_fast = (folder / "tokenizer.json").is_file()
    model = read_object(folder / "config.json")
    _must_name_few_labels(model, folder)
    if config.get("tokenizer_class") or model.get("model_type"):
        try:
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception:
            if not has_fast:
                raise
    if has_fast:
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    if (folder / "vocab.txt").is_file():
        plain = [word for word in (folder / "vocab.txt").read_text(encoding="utf-8").split() if word[0] != "["]
        lower = bool(config.get("do_lower_case", all(word == word.lower() for word in plain)))
        return BertTokenizer.from_pretrained(folder, local_files_only=True, do_lower_case=lower)
    pairs = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
    for vocabulary, merges in pairs:
        if (folder / vocabulary).is_file() and (folder / merges).is_file():
            options = {"add_prefix_space": bool(config.get("add_prefix_space", False))}
            return GPT2Tokenizer(vocab=str(folder / vocabulary), merges=str(folder / merges), **options)
    raise DataError(f"{folder}: no tokenizer here; wanted tokenizer.json, vocab.txt, or vocab.json and merges.txt")


def backend_of(theirs: Any) -> Any:
    """The same as a `tokenizers.Tokenizer`: its own, or one that cuts a text at the words of the vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors

    if theirs.is_fast:
        return Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    vocabulary, special = theirs.get_vocab(), list(theirs.all_special_tokens)
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=str(theirs.unk_token)))
    separators = pre_tokenizers.Split(Regex("[\\x1c-\\x1f]+"), "removed")  # blanks for Python, not for this library
    backend.pre_tokenizer = pre_tokenizers.Sequence([separators, pre_tokenizers.WhitespaceSplit()])
    backend.add_tokens([AddedToken(token, normalized=False) for token in vocabulary if token not in special])
    backend.add_special_tokens(special)
    around = theirs.build_inputs_with_special_tokens([])
    if len(around) == 2:
        first, last = theirs.convert_ids_to_tokens(around)
        backend.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", special_tokens=[(first, around[0]), (last, around[1])]
        )
    return backend


def must_agree(codec: FastCodec, theirs: Any, folder: Path) -> None:
    """DataError with the first difference if the ids of probe texts are not those that Transformers makes.

    Special tokens written out in a text are plain text on both sides; a tokenizer in Python cannot read them so, and
    is not asked.
    """
    options = {"add_special_tokens": False, "verbose": False} | (
        {"split_special_tokens": True} if theirs.is_fast else {}
    )
    for text in _probes(codec, theirs):
        wanted = theirs(text, **options)["input_ids"]
        got = codec.encode([text])[0].ids.tolist()
        if got != wanted:
            at = next((place for place, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]), 0)
            pair = [[codec.token(number) for number in ids[at : at + 4]] for ids in (got, wanted)]
            raise DataError(
                f"{folder}: this tokenizer ({type(theirs).__name__}) cannot be used: of {text[:60]!r} instar makes "
                f"{pair[0]} and Transformers {pair[1]} from token {at} on; give a folder with a tokenizer.json"
            )


def _probes(codec: FastCodec, theirs: Any) -> Iterator[str]:
    special = set(theirs.all_special_tokens)
    words = [codec.token(number) for number in range(0, codec.vocab_size, max(1, codec.vocab_size // 100))]
    plain = [word for word in words if word not in special]
    yield from (*_PROBES, " ".join(plain), "".join(plain))
    if theirs.is_fast:
        yield " ".join(("a", *sorted(special), "b"))


def _must_name_few_labels(model: dict[str, Any], folder: Path) -> None:
    """Transformers makes a name for each label of the model's configuration, also where only the tokenizer is asked."""
    for name in ("num_labels", "_num_labels"):
        value = model.get(name)
        if isinstance(value, int | float) and not value <= _MAX_LABELS:
            raise DataError(f"{folder / 'config.json'}: {name} is {value:,}; expected at most {_MAX_LABELS:,}")
