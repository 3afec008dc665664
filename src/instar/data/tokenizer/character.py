"""Single characters."""

from collections import Counter
from typing import Literal

from pydantic import Field

from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.sequence import CharacterCodec
from instar.data.tokenizer.trained import Made, Texts, read_sample


class Character(Made):
    """One token a character; the vocabulary is the characters of the data, in code point order."""

    kind: Literal["character"] = "character"
    max_size: int = Field(default=4096, ge=1, le=1 << 20)
    """Characters in the vocabulary at most: the most frequent; the rest are unknown."""
    sample: int = Field(default=200_000_000, ge=1)
    """Characters that are looked at: the first ones of the data."""

    def build(self, texts: Texts) -> Tokenizer:
        counts: Counter[str] = Counter()
        for text in read_sample(texts, self.sample):
            counts.update(text)
        often = sorted(counts, key=lambda character: (-counts[character], character))[: self.max_size]
        tokens, specials = trained_specials(self.end_of_text)
        return Tokenizer(CharacterCodec(tokens, sorted(often)), specials)
