"""Tokenizers that others saved: tokenizer.json, vocab.txt, or vocab.json and merges.txt."""

import json
from pathlib import Path
from typing import Any

from instar.core.errors import DataError
from instar.data.tokenizer.base import FAST_FILE, Marks, Tokenizer
from instar.data.tokenizer.codec import Specials
from instar.data.tokenizer.fast import FastCodec

_USUAL = {
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]",),
    "sep": ("[SEP]",),
    "mask": ("[MASK]", "<mask>"),
    "bos": ("<s>", "<|endoftext|>", "<|begin_of_text|>", "[CLS]"),
    "eos": ("</s>", "<|endoftext|>", "<|end_of_text|>", "[SEP]"),
}


def read_foreign(folder: Path) -> tuple[FastCodec, Specials]:
    """The tokenizer of a folder in Transformers' layout; only JSON and text are read.

    Special tokens are those the folder's configuration names, else usual ones that the vocabulary has.
    """
    config = {**_json(folder / "special_tokens_map.json"), **_json(folder / "tokenizer_config.json")}
    try:
        backend = _backend(folder, config)
    except DataError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exception
        raise DataError(f"{folder}: the tokenizer cannot be read ({error})") from error
    specials = _specials(backend, config)
    return FastCodec(backend.to_str()), Specials.of(specials)


def marks_of(folder: Path, tokenizer: Tokenizer) -> Marks | None:
    """The special tokens that a folder's tokenizer.json puts round a text; None where there is no such file.

    A configuration that says whether a text begins and ends with a mark (add_bos_token, add_eos_token) is followed.
    """
    if not (folder / FAST_FILE).is_file():
        return None
    backend = tokenizer.codec.backend()
    plain, whole = backend.encode("a", add_special_tokens=False).ids, backend.encode("a").ids
    places = range(len(whole) - len(plain) + 1)
    start = next((place for place in places if whole[place : place + len(plain)] == plain), 0)
    before, after = tuple(whole[:start]), tuple(whole[start + len(plain) :])
    config = _json(folder / "tokenizer_config.json")
    return (
        _said(before, config.get("add_bos_token"), tokenizer.bos_id),
        _said(after, config.get("add_eos_token"), tokenizer.eos_id),
    )


def _said(found: tuple[int, ...], wanted: object, number: int | None) -> tuple[int, ...]:
    if wanted is False:
        return tuple(other for other in found if other != number)
    if wanted is True and number is not None and number not in found:
        return (number,)
    return found


def _backend(folder: Path, config: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    if (folder / "vocab.txt").is_file():
        words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        plain = [word for word in words if not word.startswith("[")]
        lower = config.get("do_lower_case", all(word == word.lower() for word in plain))
        vocabulary = {word: number for number, word in enumerate(words)}
        backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=bool(lower))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        return backend
    merges = next((folder / name for name in ("merges.txt", "vocab.bpe") if (folder / name).is_file()), None)
    vocab = next((folder / name for name in ("vocab.json", "encoder.json") if (folder / name).is_file()), None)
    if merges is None or vocab is None:
        raise DataError(f"{folder}: no tokenizer here; wanted tokenizer.json, vocab.txt, or vocab.json and merges.txt")
    backend = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.get("add_prefix_space", False)))
    backend.decoder = decoders.ByteLevel()
    return backend


def _specials(backend: Any, config: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, usual in _USUAL.items():
        named = config.get(f"{name}_token")
        text = named.get("content") if isinstance(named, dict) else named
        candidates = [text] if isinstance(text, str) else usual
        token = next((token for token in candidates if backend.token_to_id(token) is not None), None)
        if token is not None:
            found[name] = token
    backend.add_special_tokens(sorted(set(found.values()), key=backend.token_to_id))
    return found


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    return value if isinstance(value, dict) else {}
