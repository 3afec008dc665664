"""Optimizers with two sets of weights: one to train with, one to evaluate and to save (schedule-free ones).

They have methods `train()` and `eval()`, which put the one or the other into the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class TwoModes(Protocol):
    """What such an optimizer can do."""

    def train(self) -> None:
        """Put the weights to train with into the model; a second call changes nothing."""

    def eval(self) -> None:
        """Put the weights to evaluate into the model; a second call changes nothing."""


def train_mode(optimizer: object) -> None:
    """The model holds the weights to train with from here on; nothing happens for optimizers of one set."""
    if isinstance(optimizer, TwoModes):
        optimizer.train()


def eval_mode(optimizer: object) -> None:
    """The model holds the weights to evaluate and to save from here on; nothing happens for optimizers of one set.

    For a checkpoint: a run that continues after `train_mode` and one that is resumed from the file then have equal
    bits, because both come back from the saved weights.
    """
    if isinstance(optimizer, TwoModes):
        optimizer.eval()


@contextmanager
def saved_weights(optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The model and the optimizer hold what a checkpoint is to keep within: the weights to evaluate."""
    was_training = isinstance(optimizer, TwoModes) and any(group.get("train_mode") for group in optimizer.param_groups)
    eval_mode(optimizer)
    try:
        yield
    finally:
        if was_training:
            train_mode(optimizer)


@contextmanager
def evaluated_weights(optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """The model holds the weights to evaluate within, and exactly those it had before after.

    For evaluation: going back by `train()` would round, so that evaluating would change the run.
    """
    if not isinstance(optimizer, TwoModes):
        yield
        return
    modes = [group.get("train_mode") for group in optimizer.param_groups]
    kept: list[tuple[Tensor, Tensor]] = [
        (parameter, parameter.detach().clone()) for group in optimizer.param_groups for parameter in group["params"]
    ]
    optimizer.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        for group, mode in zip(optimizer.param_groups, modes, strict=True):
            if mode is not None:
                group["train_mode"] = mode
