"""Tokenizers that others saved: tokenizer.json, vocab.txt, or vocab.json and merges.txt."""

from pathlib import Path
from typing import Any

from instar.core.errors import DataError
from instar.core.model_folder import must_have_whole_files
from instar.data.tokenizer.base import FAST_FILE, Marks, Tokenizer
from instar.data.tokenizer.codec import Specials
from instar.data.tokenizer.fast import FastCodec
from instar.data.tokenizer.reference import backend_of, must_agree, reference_of
from instar.data.tokenizer.template import read_object

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
    must_have_whole_files(folder)
    config = {**read_object(folder / "special_tokens_map.json"), **read_object(folder / "tokenizer_config.json")}
    try:
        theirs = reference_of(folder, config)
        backend = backend_of(theirs)
        specials = _specials(backend, config, theirs)
        codec = FastCodec(backend.to_str())
        must_agree(codec, theirs, folder)
    except (DataError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        reason = " ".join(str(error).split())[:300]
        hint = (
            "; `pip install sentencepiece protobuf` lets Transformers convert it" if _is_sentencepiece(folder) else ""
        )
        raise DataError(f"{folder}: the tokenizer cannot be read ({reason}){hint}") from error
    return codec, Specials.of(specials)


def _is_sentencepiece(folder: Path) -> bool:
    return any(folder.glob("*.model")) and not (folder / FAST_FILE).is_file()


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
    config = read_object(folder / "tokenizer_config.json")
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


def _specials(backend: Any, config: dict[str, Any], theirs: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, usual in _USUAL.items():
        named = config.get(f"{name}_token")
        text = named.get("content") if isinstance(named, dict) else named
        if text is None and not theirs.is_fast:
            text = getattr(theirs, f"{name}_token", None)
        candidates = [text] if isinstance(text, str) else usual
        token = next((token for token in candidates if backend.token_to_id(token) is not None), None)
        if token is not None:
            found[name] = token
    if not theirs.is_fast:  # the tokens round a text may have other names: in ESM the end mark closes it
        around = theirs.convert_ids_to_tokens(theirs.build_inputs_with_special_tokens([]))
        found = dict(zip(("cls", "sep"), around, strict=True)) | found if len(around) == 2 else found
    known = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    backend.add_special_tokens(sorted(set(found.values()) - known, key=backend.token_to_id))
    return found
