"""Mask most the kinds of token that the model predicts worst, wherever they stand."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from instar.config import Config
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.draws import maskable_index
from instar.masking.statistic import StatisticName
from instar.masking.store_options import Share
from instar.masking.weighted import Bounds, Per, choose_weighted


class TypeAverage(Config):
    """Probabilities follow a moving average of the loss of each vocabulary entry (as PTW does for word classes)."""

    kind: Literal["type_average"] = "type_average"
    update: Annotated[float, Field(gt=0, le=1)] = 0.05
    """How far an entry's average moves to the mean of a step's measurements of it."""
    floor: Share = 0.02
    """The least probability of any token."""
    ceiling: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The largest probability of any token."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Probabilities follow average^(1/temperature)."""
    write: Literal["masked", "chosen"] = "masked"
    """Learn from positions that showed [MASK] only, or from all chosen ones."""
    per: Per = "row"
    """Keep the share exact within each document, or only within the whole step."""

    def build(self, tokenizer: Tokenizer) -> "TypeAveragePolicy":
        """The policy; at first all entries are alike."""
        return TypeAveragePolicy(self, tokenizer.vocab_size)


class TypeAveragePolicy:
    """Keeps the averages, and chooses by them."""

    statistic: StatisticName = "nll"

    def __init__(self, config: TypeAverage, vocab_size: int) -> None:
        self.config = config
        self.average_V = np.full(vocab_size, np.log(max(2, vocab_size)), dtype=np.float32)
        """Nats; what was never measured is as hard as a guess."""
        self.wait: Callable[[int], None] | None = None
        """Called before a step reads what others wrote."""

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending."""
        if self.wait is not None:
            self.wait(step)
        config = self.config
        index_P = maskable_index(batch)
        weight_P = self.average_V[batch.ids_T.numpy()[index_P]].astype(np.float64) ** (1 / config.temperature)
        bounds = Bounds(floor=config.floor, ceiling=config.ceiling)
        return choose_weighted(batch, index_P, weight_P, rate, key, per=config.per, bounds=bounds)

    def learn(self, ids_M: NDArray[np.int64], nll_M: NDArray[np.float32]) -> None:
        """Move the averages of these entries toward the means of their measurements; what is no number is left out."""
        known = np.isfinite(nll_M)
        ids_M, nll_M = ids_M[known], nll_M[known]
        count_V = np.bincount(ids_M, minlength=len(self.average_V))
        sum_V = np.bincount(ids_M, nll_M, minlength=len(self.average_V))
        met = np.flatnonzero(count_V)
        mean = (sum_V[met] / count_V[met]).astype(np.float32)
        self.average_V[met] += np.float32(self.config.update) * (mean - self.average_V[met])

    def state_dict(self) -> dict[str, Any]:
        """The averages, exactly."""
        return {"average": self.average_V.astype("<f4").tobytes().hex()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.average_V = np.frombuffer(bytes.fromhex(state["average"]), "<f4").astype(np.float32)
