"""Tokens that a vocabulary does not know: counted, reported, and refused where there are too many to learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instar.core.errors import DataError
from instar.data.source.base import SourceBase
from instar.data.tokenizer import Tokenizer

WARNED_SHARE = 0.01
"""Share of unknown tokens from which there is a warning."""
REFUSED_SHARE = 0.5
"""Share of unknown tokens from which the data are refused, unless the caller allows it."""
_BASES = frozenset("ACGTU")


@dataclass
class TokenCount:
    """Tokens of some texts, special tokens not counted, and how many of them the vocabulary does not know."""

    tokens: int = 0
    unknown: int = 0
    uracil: int = 0
    """Letters U that were read as T."""

    def add(self, ids: NDArray[np.integer] | Sequence[int], unk_id: int | None) -> int:
        """Count some more tokens; returns how many of them are unknown."""
        unknown = 0 if unk_id is None else int(np.count_nonzero(np.asarray(ids) == unk_id))
        self.tokens += len(ids)
        self.unknown += unknown
        return unknown

    @property
    def share(self) -> float:
        """Share of unknown tokens."""
        return self.unknown / max(1, self.tokens)

    def facts(self) -> dict[str, int | float]:
        """The counts by name; U only where there was any."""
        found: dict[str, int | float] = {"unknown_tokens": self.unknown, "unknown_share": round(self.share, 6)}
        return found | ({"u_read_as_t": self.uracil} if self.uracil else {})

    def described(self) -> str:
        """The share in words."""
        text = f"{self.tokens:,} tokens, {_percent(self.share)} of them unknown"
        return text + (f"; {self.uracil:,} letters U are read as T" if self.uracil else "")


def reads_u_as_t(source: SourceBase, tokenizer: Tokenizer) -> bool:
    """True where texts are nucleotides for certain: those of a genome, and those that become k-mers."""
    return source.folds_case or tokenizer.codec.kind == "kmer"


def check_unknown(what: str, count: TokenCount, tokenizer: Tokenizer, *, is_allowed: bool, option: str) -> str | None:
    """A warning from WARNED_SHARE on, None below; DataError from REFUSED_SHARE on unless `is_allowed`, and
    where U was read as T for a vocabulary that has U alone.

    `what` names the data in the message, `option` is what allows it.
    """
    if count.uracil and tokenizer.codec.number("U") is not None and tokenizer.codec.number("T") is None:
        raise DataError(
            f"{what}: U is read as T in nucleotides, and the tokenizer was made for RNA (it knows U and not T); "
            "give it the sequences as text (kind: csv or text)"
        )
    if count.share < WARNED_SHARE:
        return None
    text = (
        f"{what}: {count.unknown:,} of {count.tokens:,} tokens ({_percent(count.share)}) are unknown to the tokenizer"
        f"{_hint(tokenizer)}"
    )
    if count.share < REFUSED_SHARE or is_allowed:
        return f"warning: {text}"
    raise DataError(
        f"{text}; from {REFUSED_SHARE:.0%} on the data are refused: choose a tokenizer that was made for such data, "
        f"or set {option} if this is intended"
    )


def spaced_word_length(tokenizer: Tokenizer) -> int | None:
    """k where the vocabulary is words of k bases that have to stand apart in the text (as DNABERT has); None: other."""
    if tokenizer.codec.kind != "fast":
        return None
    special = tokenizer.special_ids
    words = [token for token in tokenizer.tokens([i for i in range(tokenizer.vocab_size) if i not in special]) if token]
    lengths = {len(word) for word in words}
    if len(lengths) != 1 or not all(set(word.upper()) <= _BASES for word in words):
        return None
    (length,) = lengths
    return length if length > 1 else None


def _hint(tokenizer: Tokenizer) -> str:
    if tokenizer.codec.kind == "kmer":
        return " (the last bases of a sequence that make no whole word are one unknown token too)"
    length = spaced_word_length(tokenizer)
    if length is None:
        return ""
    example = "ACG CGT GTA for ACGTA" if length == 3 else f"{length} letters each, every word one base further"
    return (
        f"; its vocabulary is words of {length} bases with blanks between them, so write each sequence as overlapping "
        f"words ({example}), or give a new model tokenizer: {{kind: kmer, k: {length}, stride: 1}}"
    )


def _percent(share: float) -> str:
    if share == 0:
        return "none"
    return f"{share:.2%}" if share >= 0.0001 else "less than 0.01%"
