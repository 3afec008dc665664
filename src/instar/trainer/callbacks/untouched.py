"""Proof that what is frozen does not change."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from instar.core.errors import TrainingError
from instar.model import Network
from instar.trainer.callback import Callback
from instar.trainer.parallel.parts import local, whole
from instar.trainer.runtime import Runtime
from instar.trainer.state import StepResult, TrainState

_SHOWN = 5
_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_digest(network: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name; the same bits, the same digest."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}".encode())
        digest.update(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
    return digest.hexdigest()


def must_be_untouched(network: nn.Module, before: str) -> None:
    """TrainingError if the weights' digest is another."""
    after = weights_digest(network)
    if after != before:
        raise TrainingError(f"the weights were to stay as they are, and changed ({before[:12]} to {after[:12]})")


class Untouched(Callback):
    """TrainingError once a frozen tensor has changed: after the first step, before each checkpoint, and at the end.

    Keeps a copy of what is frozen, where it lies, and compares bits there; nothing is asked of the device in between.
    Costs the memory of the copy, and at each comparison one pass over both.
    """

    def __init__(self, runtime: Runtime, *, everything: bool) -> None:
        """`everything`: of a run that only measures; otherwise what has no gradient."""
        self.runtime = runtime
        self.everything = everything
        self._before: dict[str, Tensor] = {}
        self._is_first = True

    def fit_started(self, state: TrainState) -> None:
        self._before = {name: tensor.detach().clone() for name, tensor in self._frozen(state.network).items()}
        self._is_first = True

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if self._is_first:
            self._is_first = False
            self.check(state)

    def fit_ended(self, state: TrainState) -> None:
        self.check(state)

    def check(self, state: TrainState) -> None:
        """TrainingError, on every rank, with how many tensors changed and by how much; all ranks call it."""
        if not self._before:
            return
        now = self._frozen(state.network)
        mine = _differing(now, self._before)
        names = sorted({name for said in self.runtime.exchange(json.dumps(mine).encode()) for name in json.loads(said)})
        if not names:
            return
        norms = [(name.removeprefix("model."), _norm(now[name], self._before[name])) for name in names[:_SHOWN]]
        shown = ", ".join(f"{name} by {norm:.3g}" for name, norm in norms)
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise TrainingError(
            f"step {state.step}: {len(names)} of {len(self._before)} frozen tensors changed (norm of the change): "
            f"{shown}{more}; the run ends without saving them. Does a callback or a hook write weights?"
        )

    def _frozen(self, network: Network) -> dict[str, Tensor]:
        self.runtime.settle(network)
        if self.everything:
            held: Mapping[str, Tensor] = network.state_dict(keep_vars=True)
            return dict(held)
        return {name: value for name, value in network.named_parameters() if not value.requires_grad}


@torch.no_grad()
def _differing(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors of which this process's part has other bits; the device is asked once."""
    flags: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in before.items():
        flag = (_bits(local(now[name])) != _bits(local(value))).any()
        flags.setdefault(flag.device, {})[name] = flag
    return [
        name
        for found in flags.values()
        for name, differs in zip(found, torch.stack(list(found.values())).tolist(), strict=True)
        if differs
    ]


def _bits(tensor: Tensor) -> Tensor:
    plain = tensor.detach().contiguous()
    return plain.view(_BITS[plain.element_size()]) if plain.ndim else plain[None].view(_BITS[plain.element_size()])


@torch.no_grad()
def _norm(now: Tensor, before: Tensor) -> float:
    return float((whole(now).double() - whole(before).double()).norm())
