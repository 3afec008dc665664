"""Words of k bases."""

from typing import Literal

from pydantic import Field, model_validator

from instar.data.tokenizer.base import Tokenizer
from instar.data.tokenizer.codec import trained_specials
from instar.data.tokenizer.sequence import KmerCodec
from instar.data.tokenizer.trained import Made, Texts


class Kmer(Made):
    """All 4^k words over A, C, G, T; a word with another letter is unknown; case does not matter."""

    kind: Literal["kmer"] = "kmer"
    k: int = Field(default=6, ge=1, le=10)
    """Bases in a word."""
    stride: int | None = Field(default=None, ge=1)
    """Bases from one word's start to the next; none: k, so that words do not overlap."""

    @model_validator(mode="after")
    def _stride_fits(self) -> "Kmer":
        if self.stride is not None and self.stride > self.k:
            raise ValueError(
                f"stride may be at most k ({self.k}), or bases between words would be lost; got {self.stride}"
            )
        return self

    def build(self, texts: Texts) -> Tokenizer:  # noqa: ARG002 (every kind is built from texts; this one knows its words)
        tokens, specials = trained_specials(self.end_of_text)
        return Tokenizer(KmerCodec(tokens, self.k, self.stride or self.k), specials)
