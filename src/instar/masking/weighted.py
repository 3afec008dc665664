"""Unequal probabilities that add up: an exact budget by water-filling, kept by systematic sampling.

Shape letters: P positions that may be masked, G groups of them (rows, or one for the whole step).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from instar.core import seeds
from instar.data import Batch
from instar.masking.draws import document_draws, documents_of, token_draws

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Per = Literal["row", "batch"]

_LEAST = 1e-9
"""Weight of a position beside the heaviest of its group, at least: then every budget can be spent."""
_ROUNDS = 200


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a probability may be, whatever its weight."""

    floor: float = 0.0
    """The least probability of any position (or the rate, where that is less)."""
    ceiling: float = 1.0
    """The largest (or the rate, where that is more)."""
    uniform: float = 0.0
    """Share of the budget that is spread evenly."""


def choose_weighted(
    batch: Batch, index_P: Ints, weight_P: Floats, rate: float, key: int, *, per: Per, bounds: Bounds
) -> Ints:
    """Indices of the tokens to mask, ascending: `rate` of them on average, exactly but for rounding in each group.

    Each position is masked with its own probability: proportional to its weight within the bounds. Draws depend on the
    key, the sample and the position in it only.
    """
    if len(index_P) == 0:
        return index_P
    document_P = documents_of(batch, index_P)
    rounding_D = document_draws(batch, key)
    group_P = document_P if per == "row" else np.zeros_like(document_P)
    starts_G = np.flatnonzero(np.diff(group_P, prepend=-1))
    rounding_G = rounding_D[group_P[starts_G]]
    probability_P = probabilities(weight_P, starts_G, rate, bounds)
    # A fixed order would mask every n-th of equal tokens, like a comb; in a random one they fall as they may.
    order_P = np.argsort(group_P + token_draws(batch, index_P, seeds.derive(key, "order")))
    chosen_P = np.zeros(len(index_P), dtype=np.bool_)
    chosen_P[order_P] = systematic(probability_P[order_P], starts_G, rounding_G)
    return index_P[chosen_P]


def probabilities(weight_P: Floats, starts_G: Ints, rate: float, bounds: Bounds) -> Floats:
    """Probability of each position: in every group they add up to `rate` times its size.

    floor + min(ceiling - floor, lambda weight), where lambda is what makes the sum right. Weights that are no
    positive numbers count as (nearly) nothing.
    """
    sizes_G = np.diff(np.append(starts_G, len(weight_P)))
    least = min(bounds.floor, rate)
    base = least + bounds.uniform * (rate - least)
    room = max(bounds.ceiling, rate) - base
    weight_P = np.where(np.isfinite(weight_P) & (weight_P > 0), weight_P, 0.0)
    heaviest_G = np.maximum.reduceat(weight_P, starts_G)
    heaviest_G[heaviest_G == 0] = 1.0
    weight_P = np.maximum(weight_P / np.repeat(heaviest_G, sizes_G), _LEAST)
    filled: Floats = base + water_fill(weight_P, starts_G, (rate - base) * sizes_G, room)
    return filled


def water_fill(weight_P: Floats, starts_G: Ints, budget_G: Floats, room: float) -> Floats:
    """min(room, lambda weight), with one lambda for each group that makes its sum the budget.

    Newton's method on a concave, piecewise linear function, from below: exact after as many rounds as there are
    times at which positions fill up, which are few.
    """
    sizes_G = np.diff(np.append(starts_G, len(weight_P)))
    level_G = budget_G / np.add.reduceat(weight_P, starts_G)
    filled_P = np.repeat(level_G, sizes_G) * weight_P
    for _ in range(_ROUNDS):
        is_full_P = filled_P >= room
        if not is_full_P.any():
            return filled_P
        np.minimum(filled_P, room, out=filled_P)
        missing_G = budget_G - np.add.reduceat(filled_P, starts_G)
        if (missing_G <= 1e-9 * budget_G).all():
            return filled_P
        free_G = np.add.reduceat(np.where(is_full_P, 0.0, weight_P), starts_G)
        level_G = level_G + np.divide(missing_G, free_G, out=np.zeros_like(free_G), where=free_G > 0)
        filled_P = np.repeat(level_G, sizes_G) * weight_P
    return np.minimum(filled_P, room)


def systematic(probability_P: Floats, starts_G: Ints, offset_G: Floats) -> NDArray[np.bool_]:
    """True with exactly these probabilities (at most 1), in each group as often as they add up to, rounded by chance.

    Steps of 1 along the sum of the probabilities, from a random offset (Madow 1949).
    """
    sizes_G = np.diff(np.append(starts_G, len(probability_P)))
    before_G = np.concatenate([[0.0], np.cumsum(np.add.reduceat(probability_P, starts_G))[:-1]])
    reached_P = np.cumsum(probability_P) + np.repeat(offset_G - before_G, sizes_G)
    steps_P = np.floor(reached_P)
    earlier_P = np.concatenate([[0.0], steps_P[:-1]])
    earlier_P[starts_G] = np.floor(offset_G)
    chosen_P: NDArray[np.bool_] = steps_P > earlier_P
    return chosen_P
