"""Proof that a run which only measures changed no weight."""

import hashlib

import torch
from torch import nn

from instar.core.errors import TrainingError
from instar.trainer.callback import Callback
from instar.trainer.state import TrainState


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name; the same bits, the same digest."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


class Untouched(Callback):
    """TrainingError at the end of a run whose weights are not those of its beginning."""

    def __init__(self) -> None:
        self.before = ""

    def fit_started(self, state: TrainState) -> None:
        self.before = weights_digest(state.network)

    def fit_ended(self, state: TrainState) -> None:
        must_be_untouched(state.network, self.before)


def must_be_untouched(network: nn.Module, before: str) -> None:
    """TrainingError if the weights' digest is another."""
    after = weights_digest(network)
    if after != before:
        raise TrainingError(f"the weights were to stay as they are, and changed ({before[:12]} to {after[:12]})")
