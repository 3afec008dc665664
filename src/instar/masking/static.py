"""Probabilities of vocabulary entries that somebody worked out before."""

import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from instar.config import Config, PathText
from instar.core.errors import DataError, InputMissingError
from instar.data import Batch
from instar.data.tokenizer import Tokenizer
from instar.masking.draws import maskable_index
from instar.masking.weighted import Bounds, Per, choose_weighted


class Static(Config):
    """Probabilities follow a number for each vocabulary entry, read from a file (as InforMask's do)."""

    kind: Literal["static"] = "static"
    path: PathText
    """JSON: {"token": number, ...}, or a list with a number for each id. A token that is not named has 0."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The least probability of any token."""
    ceiling: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The largest probability of any token."""
    per: Per = "row"
    """Keep the share exact within each document, or only within the whole step."""

    def build(self, tokenizer: Tokenizer) -> "StaticPolicy":
        """The policy; DataError or InputMissingError if the file does not fit the vocabulary."""
        return StaticPolicy(self, read_weights(Path(self.path), tokenizer))


def read_weights(path: Path, tokenizer: Tokenizer) -> NDArray[np.float64]:
    """(V,) number of each entry; all faults of the file in one DataError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error})") from error
    size = tokenizer.vocab_size
    if isinstance(value, list):
        if len(value) != size:
            raise DataError(f"{path}: has {len(value)} numbers; the vocabulary has {size:,} entries")
        named = dict(enumerate(value))
    elif isinstance(value, dict):
        numbers = {token: number for number, token in enumerate(tokenizer.tokens(list(range(size))))}
        unknown = [token for token in value if token not in numbers]
        if unknown:
            raise DataError(f"{path}: {len(unknown)} tokens are not in the vocabulary, like {unknown[:5]}")
        named = {numbers[token]: number for token, number in value.items()}
    else:
        raise DataError(f"{path}: wanted an object or a list; got {type(value).__name__}")
    bad = [number for number in named.values() if not _is_weight(number)]
    if bad or not any(named.values()):
        raise DataError(f"{path}: wanted numbers that are 0 or more, and not all 0; got {bad[:5] or 'zeros only'}")
    weight_V = np.zeros(size)
    weight_V[list(named)] = list(named.values())
    return weight_V


def _is_weight(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number < float("inf")


class StaticPolicy:
    """Chooses by fixed weights."""

    def __init__(self, config: Static, weight_V: NDArray[np.float64]) -> None:
        self.config, self.weight_V = config, weight_V

    def choose(self, batch: Batch, rate: float, key: int, step: int = 0) -> NDArray[np.int64]:
        """Indices of the tokens to mask, ascending."""
        del step
        index_P = maskable_index(batch)
        weight_P = self.weight_V[batch.ids_T.numpy()[index_P]]
        bounds = Bounds(floor=self.config.floor, ceiling=self.config.ceiling)
        return choose_weighted(batch, index_P, weight_P, rate, key, per=self.config.per, bounds=bounds)
