"""Every token has the same probability."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instar.config import Config
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.draws import document_draws, documents_of, maskable_index, token_draws


class Uniform(Config):
    """Exactly the asked share of the maskable tokens, chosen without replacement."""

    kind: Literal["uniform"] = "uniform"
    per: Literal["row", "batch"] = "row"
    """Keep the share exact within each document, or only within the whole step."""

    def build(self, tokenizer: Tokenizer) -> "Uniform":
        """The policy is the config."""
        del tokenizer
        return self

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending: `rate` of the maskable tokens, maybe none where they are few.

        A fractional number of positions is rounded up or down by chance, so that the share is
        right on average. All draws depend on `key`, the sample and the position in it only.
        """
        del step
        index_M = maskable_index(batch)
        if len(index_M) == 0:
            return index_M
        draws = token_draws(batch, index_M, key)
        if self.per == "row":
            group, rounding = documents_of(batch, index_M), document_draws(batch, key)
        else:
            group, rounding = np.zeros(len(index_M), dtype=np.int64), document_draws(batch, key)[:1]
        return index_M[smallest(draws, group, rate, rounding)]


def smallest(
    draws: NDArray[np.float64], group: NDArray[np.int64], rate: float, rounding: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """True for the smallest `rate` of the draws of each group; groups are ascending numbers."""
    sizes = np.bincount(group, minlength=len(rounding))
    budget = np.floor(sizes * rate + rounding).astype(np.int64)
    order = np.lexsort((draws, group))
    starts = np.cumsum(sizes) - sizes
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    chosen = np.zeros(len(draws), dtype=np.bool_)
    chosen[order] = rank < np.repeat(budget, sizes)
    return chosen
