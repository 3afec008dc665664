"""What is measured of a prediction, kept apart from what a policy makes of it.

Shape letter: M positions where something is predicted.
"""

import math
from typing import Literal

import torch
from torch import Tensor

StatisticName = Literal["one_minus_p", "nll", "wrong", "entropy", "progress", "excess"]
"""one_minus_p: 1 - the probability of the right token. nll: its negative log (nats). wrong: 1 where another
token is likelier. entropy: of the prediction (nats). progress: how much the nll fell lately. excess: how far
the nll lies above a reference's."""

IN_NATS = frozenset({"nll", "entropy", "progress", "excess"})


def measure(name: StatisticName, nll_M: Tensor, correct_M: Tensor, entropy_M: Tensor | None = None) -> Tensor:
    """The statistic at each position, float32, on the device, without gradients, from what the loss was made of.

    `entropy_M` is needed by entropy only.
    """
    if name == "one_minus_p":
        return -torch.expm1(-nll_M.detach().float())
    if name == "wrong":
        return (~correct_M).float()
    if name == "entropy":
        if entropy_M is None:
            raise ValueError("the statistic entropy needs a watch that wants it")
        return entropy_M.detach().float()
    return nll_M.detach().float()


def scale_of(name: StatisticName, vocab_size: int) -> float:
    """The value that is stored as 1: what a guess among all tokens costs, for what is counted in nats."""
    return math.log(max(2, vocab_size)) if name in IN_NATS else 1.0
