"""Tokenizer folders of others are bounded by counting before any library reads them."""

from pathlib import Path
from typing import Any

from instar.core.errors import DataError
from instar.core.files.plain import must_be_plain
from instar.data.tokenizer.template import TEMPLATE_FILE, read_object

_MAX_BYTES = 256 << 20
"""Of a vocabulary; the largest in use have 35 MB."""
_MAX_CONFIG_BYTES = 32 << 20
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "encoder.json", "merges.txt", "vocab.bpe")
_CONFIGURATIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "instar_tokenizer.json",
    TEMPLATE_FILE,
)
_MAX_ADDED = 300_000
"""Added tokens; beyond it the library needs minutes."""
_MAX_GROWTH = 64
"""Times that a tokenizer may make a text longer before it is cut."""
_BYTES_OF_A_CHARACTER = 4


def must_be_bounded(folder: Path) -> None:
    """DataError for files that are too large or no plain files, too many added tokens, and rules that lengthen texts.

    A rule that doubles a text, thirty times over, would fill any memory.
    """
    for names, limit in ((_VOCABULARIES, _MAX_BYTES), (_CONFIGURATIONS, _MAX_CONFIG_BYTES)):
        for path in (folder / name for name in names):
            must_be_plain(path)
            size = path.stat().st_size if path.exists() else 0
            if size > limit:
                raise DataError(f"{path}: has {size:,} bytes; expected at most {limit:,}")
    path = folder / "tokenizer.json"
    values = read_object(path)
    for name, added in (
        (path, values.get("added_tokens")),
        (folder / "tokenizer_config.json", read_object(folder / "tokenizer_config.json").get("added_tokens_decoder")),
        (folder / "added_tokens.json", read_object(folder / "added_tokens.json")),
    ):
        if isinstance(added, list | dict) and len(added) > _MAX_ADDED:
            raise DataError(f"{name}: has {len(added):,} added tokens; expected at most {_MAX_ADDED:,}")
    for part in ("normalizer", "pre_tokenizer"):
        growth = _growth(values.get(part))
        if growth > _MAX_GROWTH:
            raise DataError(f"{path}: its {part} makes a text up to {growth:.3g} times longer; refused")


def _growth(rule: Any) -> float:
    """By how much a normalizer or pre-tokenizer of the `tokenizers` library can lengthen a text, at most."""
    if not isinstance(rule, dict):
        return 1.0
    grown = 1.0
    for part in rule.get("normalizers") or rule.get("pretokenizers") or ():
        grown *= _growth(part)
    if rule.get("type") == "ByteLevel":
        grown *= _BYTES_OF_A_CHARACTER
    if rule.get("type") == "Replace":
        pattern, content = rule.get("pattern") or {}, str(rule.get("content", ""))
        length = len(str(pattern.get("String", "x"))) if isinstance(pattern, dict) else 1
        grown *= max(1.0, len(content) / length if length else 1.0 + len(content))
    return grown
