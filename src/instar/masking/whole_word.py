"""Mask whole words, not parts of them."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instar.config import Config
from instar.core.errors import ConfigError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.draws import document_draws, documents_of, maskable_index, token_draws

_WORD_MARKS = ("Ġ", "▁")
"""Begin a token that begins a word (byte-level BPE, SentencePiece); \"##\" begins one that does not (WordPiece)."""


class WholeWord(Config):
    """All the tokens of a word are masked, or none; the share is right on average, and nearly so in each document."""

    kind: Literal["whole_word"] = "whole_word"

    def build(self, tokenizer: Tokenizer) -> "WholeWordPolicy":
        """The policy; ConfigError if the tokenizer does not show where words begin."""
        tokens = tokenizer.tokens(list(range(tokenizer.vocab_size)))
        continues_V = continues_word(tokens)
        if continues_V is None:
            wanted = "a tokenizer that marks where words begin (wordpiece, bpe, unigram)"
            raise ConfigError([f"task.masking.kind: whole_word needs {wanted}"])
        return WholeWordPolicy(continues_V)


def continues_word(tokens: list[str]) -> NDArray[np.bool_] | None:
    """Whether each token continues the word before it; None if the vocabulary has no marks."""
    if any(token.startswith("##") for token in tokens):
        return np.array([token.startswith("##") for token in tokens])
    for mark in _WORD_MARKS:
        if any(token.startswith(mark) for token in tokens):
            return np.array([not token.startswith(mark) for token in tokens])
    return None


class WholeWordPolicy:
    """Chooses words."""

    def __init__(self, continues_V: NDArray[np.bool_]) -> None:
        self.continues_V = continues_V

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending: words in random order up to the share, the last one by chance."""
        del step
        index_P = maskable_index(batch)
        if len(index_P) == 0:
            return index_P
        document_P = documents_of(batch, index_P)
        begins_P = ~self.continues_V[batch.ids_T.numpy()[index_P]]
        begins_P[1:] |= (np.diff(index_P) > 1) | (np.diff(document_P) > 0)
        begins_P[0] = True
        first_W = np.flatnonzero(begins_P)
        size_W = np.diff(np.append(first_W, len(index_P)))
        document_W = document_P[first_W]
        order_W = np.argsort(document_W + token_draws(batch, index_P[first_W], key))
        size_D = np.bincount(document_W, size_W, minlength=len(batch))
        before_D = np.concatenate([[0], np.cumsum(size_D)[:-1]])
        taken_W = np.cumsum(size_W[order_W]) - size_W[order_W] - before_D[document_W]
        limit_W = rate * size_D[document_W] - document_draws(batch, key)[document_W] * size_W[order_W]
        chosen_W = np.zeros(len(first_W), dtype=np.bool_)
        chosen_W[order_W] = taken_W <= limit_W
        return index_P[np.repeat(chosen_W, size_W)]
