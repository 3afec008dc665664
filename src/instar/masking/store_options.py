"""Options of policies that keep a probability for each character, and how such a probability is read.

Shape letters: T tokens, P positions that may be masked.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from instar.config import Config, PathText
from instar.data import Batch
from instar.masking.base import ReadProbabilities
from instar.masking.offsets import Spans
from instar.masking.statistic import StatisticName
from instar.masking.value_arrays import ValueType

Floats = NDArray[np.float64]
Share = Annotated[float, Field(ge=0, le=1)]
DECILES = 10
DECAY_STEPS = 100
"""Steps of which `decay` says how much is forgotten."""


class StoreOptions(Config):
    """What is kept for each character, and how it is rewritten."""

    statistic: StatisticName = "one_minus_p"
    """What is measured of each prediction; the larger, the sooner the token is masked again."""
    update: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How far a value moves to the new measurement; 1: it is replaced."""
    prior: Share = 1.0
    """Value of what was never predicted."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a value's distance from the prior that is forgotten in 100 steps without a new measurement."""
    write: Literal["masked", "chosen"] = "masked"
    """Learn from positions that showed [MASK] only; or from all chosen ones, of which some show the answer."""
    write_threshold: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Write only where the right token had a larger probability than this; null: write all."""
    dtype: ValueType = "uint8"
    """Type of a value on the disk: one byte, or two."""
    strands: Literal["joint", "apart"] = "joint"
    """Whether the two strands of a genome share their values."""
    reference: PathText | None = None
    """Folder that `instar probe` wrote, of the model to be compared with (statistic: excess)."""
    store: PathText | None = None
    """Folder of the store; null: `masking` in the run folder. One run at a time may have it."""

    @model_validator(mode="after")
    def _options_fit(self) -> "StoreOptions":
        if self.write_threshold is not None and self.statistic != "one_minus_p":
            raise ValueError("write_threshold is about probabilities; it needs statistic: one_minus_p")
        if (self.reference is not None) != (self.statistic == "excess"):
            raise ValueError("statistic: excess and reference: FOLDER belong together; give both or neither")
        if self.statistic == "progress" and self.update == 1:
            raise ValueError("statistic: progress compares averages; it needs update below 1, like 0.3")
        return self


def spans_of(batch: Batch) -> Spans | None:
    """Where the characters of the batch's tokens lie in the corpus; None if its samples do not say."""
    if batch.starts_T is None or batch.characters_T is None:
        return None
    return Spans(batch.starts_T.numpy(), batch.characters_T.numpy())


def values_of(
    batch: Batch, index_P: NDArray[np.int64], read: ReadProbabilities | None, prior: float, step: int
) -> Floats:
    """Value of each position; the prior where nothing is known of any."""
    spans = spans_of(batch)
    if read is None or spans is None:
        return np.full(len(index_P), prior)
    values_P = read(spans, step)[index_P]  # the whole row lies in one block
    return np.where(np.isnan(values_P), prior, values_P)


def tallied(values_P: Floats, is_chosen_P: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(2, DECILES) how many positions, and how many chosen ones, have a value in each tenth of 0 to 1."""
    tenth_P = np.minimum((values_P * DECILES).astype(np.int64), DECILES - 1)
    chosen = np.bincount(tenth_P[is_chosen_P], minlength=DECILES)
    return np.stack([np.bincount(tenth_P, minlength=DECILES), chosen])
