"""Mask most what the model predicts worst: probabilities that it rewrites itself, within an exact budget."""

from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from instar.core import seeds
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.base import ReadProbabilities
from instar.masking.draws import documents_of, maskable_index, token_draws
from instar.masking.store_options import DECILES, Share, StoreOptions, tallied, values_of
from instar.masking.weighted import Bounds, Per, choose_weighted


class Adaptive(StoreOptions):
    """Each token's probability follows its value in the probability store; the share that is masked is exact."""

    kind: Literal["adaptive"] = "adaptive"
    floor: Share = 0.02
    """The least probability of any token: nothing is left alone for ever."""
    ceiling: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The largest probability of any token."""
    uniform: Share = 0.1
    """Share of the budget that is spread evenly over all tokens."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Probabilities follow value^(1/temperature): above 1 they are more alike, below 1 more extreme."""
    per: Per = "row"
    """Keep the share exact within each document, or only within the whole step."""
    lower_case: Annotated[float, Field(ge=0)] = 1.0
    """Factor of the weight of tokens with a lower-case letter (repeats, in a genome)."""
    lower_case_loss: Annotated[float, Field(ge=0)] = 1.0
    """Factor of their part in the loss."""
    shuffled: bool = False
    """A control: the values of a document are dealt to its tokens at random."""

    @model_validator(mode="after")
    def _bounds_fit(self) -> "Adaptive":
        if self.floor > self.ceiling:
            raise ValueError(f"floor must not be above ceiling; got {self.floor} and {self.ceiling}")
        return self

    def build(self, tokenizer: Tokenizer) -> "AdaptivePolicy":
        """The policy; any tokenizer will do. Until it is given a store it knows nothing of any token."""
        del tokenizer
        return AdaptivePolicy(self)


class AdaptivePolicy:
    """Chooses by the values that `read` gives."""

    def __init__(self, config: Adaptive) -> None:
        self.config = config
        self.read: ReadProbabilities | None = None
        self.wait: Callable[[int], None] | None = None
        """Called before a step reads what others wrote."""
        self.tally = np.zeros((2, DECILES), dtype=np.int64)
        """Tokens, and masked tokens, by tenths of the values, of the newest step."""

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending."""
        config = self.config
        if self.wait is not None:
            self.wait(step)
        index_P = maskable_index(batch)
        values_P = values_of(batch, index_P, self.read, config.prior, step)
        if config.shuffled:
            values_P = _dealt(batch, index_P, values_P, key)
        weight_P = values_P ** (1 / config.temperature)
        if config.lower_case != 1 and batch.lower_T is not None:
            weight_P = np.where(batch.lower_T.numpy()[index_P], weight_P * config.lower_case, weight_P)
        bounds = Bounds(floor=config.floor, ceiling=config.ceiling, uniform=config.uniform)
        index_M = choose_weighted(batch, index_P, weight_P, rate, key, per=config.per, bounds=bounds)
        is_chosen_T = np.zeros(batch.num_tokens, dtype=np.bool_)
        is_chosen_T[index_M] = True
        self.tally = tallied(values_P, is_chosen_T[index_P])
        return index_M


def _dealt(batch: Batch, index_P: NDArray[np.int64], values_P: NDArray[np.float64], key: int) -> NDArray[np.float64]:
    """The values of each document in a random order."""
    document_P = documents_of(batch, index_P)
    dealt_P: NDArray[np.float64] = values_P[
        np.argsort(document_P + token_draws(batch, index_P, seeds.derive(key, "deal")))
    ]
    return dealt_P
