"""Text to numbers, one file a kind."""

from typing import Annotated, Any

from pydantic import Discriminator, Tag

from instar.data.tokenizer.base import Layout, Marks, Tokenizer
from instar.data.tokenizer.bpe import Bpe
from instar.data.tokenizer.character import Character
from instar.data.tokenizer.chat import ChatTemplate
from instar.data.tokenizer.codec import Encoded
from instar.data.tokenizer.from_folder import FromFolder
from instar.data.tokenizer.kmer import Kmer
from instar.data.tokenizer.trained import Texts
from instar.data.tokenizer.unigram import Unigram
from instar.data.tokenizer.wordpiece import WordPiece


def _kind(value: Any) -> str | None:
    """The kind that a value names; `{from: path}` needs none."""
    if not isinstance(value, dict):
        return getattr(value, "kind", None)
    return value.get("kind", "from_folder" if "from" in value else None)


TokenizerConfig = Annotated[
    Annotated[FromFolder, Tag("from_folder")]
    | Annotated[WordPiece, Tag("wordpiece")]
    | Annotated[Bpe, Tag("bpe")]
    | Annotated[Unigram, Tag("unigram")]
    | Annotated[Kmer, Tag("kmer")]
    | Annotated[Character, Tag("character")],
    Discriminator(_kind),
]
"""Any tokenizer, chosen by `kind`; `{from: path}` loads one."""


def build_tokenizer(config: TokenizerConfig, texts: Texts) -> Tokenizer:
    """Make or load a tokenizer; equal texts and options give an equal one (unigram: nearly equal).

    `texts` is called for a fresh iterator where the kind learns from the data; nothing is read otherwise.
    """
    return config.build(texts)


__all__ = [
    "Bpe",
    "Character",
    "ChatTemplate",
    "Encoded",
    "FromFolder",
    "Kmer",
    "Layout",
    "Marks",
    "Tokenizer",
    "TokenizerConfig",
    "Unigram",
    "WordPiece",
    "build_tokenizer",
]
