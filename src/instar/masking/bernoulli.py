"""The rule that adaptive masking began with: scaled probabilities, cut at 1, and a coin for each token."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instar.core import seeds
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.base import ReadProbabilities
from instar.masking.draws import document_draws, documents_of, maskable_index, token_draws
from instar.masking.store_options import DECILES, Share, StoreOptions, tallied, values_of

_NOTHING = 0.5
"""Added to the values of a document where all are zero."""


class Bernoulli(StoreOptions):
    """Probabilities are values scaled to the rate and cut at 1; the cut loses budget, so `adaptive` is the better one.

    Kept for comparison (the rule of the genomic ModernBERT that has values for each base pair).
    """

    kind: Literal["bernoulli"] = "bernoulli"
    adaptive_samples: Share = 0.5
    """Share of the documents that are masked by their values; the others are masked uniformly."""

    def build(self, tokenizer: Tokenizer) -> "BernoulliPolicy":
        """The policy; any tokenizer will do."""
        del tokenizer
        return BernoulliPolicy(self)


class BernoulliPolicy:
    """Chooses by the values that `read` gives."""

    def __init__(self, config: Bernoulli) -> None:
        self.config = config
        self.read: ReadProbabilities | None = None
        self.wait: Callable[[int], None] | None = None
        """Called before a step reads what others wrote."""
        self.tally = np.zeros((2, DECILES), dtype=np.int64)
        """Tokens, and masked tokens, by tenths of the values, of the newest step."""

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending."""
        if self.wait is not None:
            self.wait(step)
        index_P = maskable_index(batch)
        if len(index_P) == 0:
            return index_P
        values_P = values_of(batch, index_P, self.read, self.config.prior, step)
        document_P = documents_of(batch, index_P)
        count_D = np.maximum(1, np.bincount(document_P, minlength=len(batch)))
        sum_D = np.bincount(document_P, values_P, minlength=len(batch))
        values_P = np.where((sum_D == 0)[document_P], _NOTHING, values_P)
        mean_D = np.bincount(document_P, values_P, minlength=len(batch)) / count_D
        probability_P = np.clip(values_P * rate / np.where(mean_D == 0, 1.0, mean_D)[document_P], 0.0, 1.0)
        follows_D = document_draws(batch, seeds.derive(key, "adaptive samples")) < self.config.adaptive_samples
        probability_P = np.where(follows_D[document_P], probability_P, rate)
        chosen_P = token_draws(batch, index_P, key) < probability_P
        self.tally = tallied(values_P, chosen_P)
        return index_P[chosen_P]
