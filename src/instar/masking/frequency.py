"""Mask rare tokens more often than common ones."""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from instar.config import Config
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.draws import maskable_index
from instar.masking.weighted import Bounds, Per, choose_weighted


class Frequency(Config):
    """Probabilities follow count^-power, the token's count in the training data; drawn over the whole step."""

    kind: Literal["frequency"] = "frequency"
    power: Annotated[float, Field(ge=0)] = 0.5
    """0: all tokens alike; 1: a token is masked equally often whatever its count."""
    ceiling: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The largest probability of any token."""
    per: Per = "batch"
    """Keep the share exact within the whole step, or within each document."""

    def build(self, tokenizer: Tokenizer) -> "FrequencyPolicy":
        """The policy; until it is given counts all tokens are alike."""
        return FrequencyPolicy(self, tokenizer.vocab_size)


class FrequencyPolicy:
    """Chooses by counts."""

    def __init__(self, config: Frequency, vocab_size: int) -> None:
        self.config = config
        self.weight_V = np.ones(vocab_size)

    def count(self, counts_V: NDArray[np.int64]) -> None:
        """Take the counts of the training data; a token that never came counts as one that came once."""
        self.weight_V = np.maximum(counts_V, 1).astype(np.float64) ** -self.config.power

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending."""
        del step
        index_P = maskable_index(batch)
        weight_P = self.weight_V[batch.ids_T.numpy()[index_P]]
        bounds = Bounds(ceiling=self.config.ceiling)
        return choose_weighted(batch, index_P, weight_P, rate, key, per=self.config.per, bounds=bounds)
