"""Mask stretches of tokens."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from instar.config import Config
from instar.core import seeds
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.draws import document_draws, documents_of, maskable_index, token_draws
from instar.masking.uniform import smallest


class Span(Config):
    """Spans of geometric length from random starts until the share is reached (Joshi et al. 2020); it is exact."""

    kind: Literal["span"] = "span"
    stop: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Probability that a span ends after each token: spans have a mean of 1/stop tokens, then cut at `longest`."""
    longest: Annotated[int, Field(ge=1, le=1000)] = 10
    """Tokens of a span, at most."""

    def build(self, tokenizer: Tokenizer) -> "Span":
        """The policy is the config."""
        del tokenizer
        return self

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending; the last span of a document is cut where the share is reached."""
        del step
        index_P = maskable_index(batch)
        if len(index_P) == 0:
            return index_P
        document_P = documents_of(batch, index_P)
        priority_P = token_draws(batch, index_P, key)
        draw_P = token_draws(batch, index_P, seeds.derive(key, "span length"))
        length_P = self._lengths(draw_P)
        # A token is masked by the first span, in order of priority, that covers it.
        covered_P = priority_P.copy()
        for back in range(1, self.longest):
            reaches = (
                (length_P[:-back] > back)
                & (index_P[back:] - index_P[:-back] == back)
                & (document_P[back:] == document_P[:-back])
            )
            earlier_P = np.where(reaches, priority_P[:-back], np.inf)
            np.minimum(covered_P[back:], earlier_P, out=covered_P[back:])
        return index_P[smallest(covered_P, document_P, rate, document_draws(batch, key))]

    def _lengths(self, draw_P: NDArray[np.float64]) -> NDArray[np.int64]:
        if self.stop >= 1:
            return np.ones(len(draw_P), dtype=np.int64)
        length_P = 1 + np.floor(np.log1p(-draw_P) / np.log1p(-self.stop))
        cut_P: NDArray[np.int64] = np.minimum(length_P, self.longest).astype(np.int64)
        return cut_P
