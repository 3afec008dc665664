"""Two ways to compute the loss of one batch, compared on the user's own model and data.

Shape letters: P parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Agreement:
    """A batch's loss and the norm of its gradient by the model's own forward pass and by another way."""

    own_loss: float
    own_norm: float
    loss: float
    norm: float
    apart: float
    """How far the two gradients are apart, in units of what rounding may do; of the parameter that is furthest."""
    is_exact: bool
    """Whether both were computed in float32; otherwise rounding alone makes them differ more."""

    def __bool__(self) -> bool:
        """True where the two agree to rounding; see `compare`."""
        of_loss = 1e-4 if self.is_exact else 2e-2
        return abs(self.loss - self.own_loss) <= of_loss * max(1.0, abs(self.own_loss)) and self.apart <= 1

    def __str__(self) -> str:
        return f"loss {self.own_loss:.6g} and {self.loss:.6g}, gradient norm {self.own_norm:.6g} and {self.norm:.6g}"


def compare(model: nn.Module, own: Callable[[], Tensor], other: Callable[[], Tensor]) -> Agreement:
    """Compute both losses with dropout off; gradients, random draws and modes of the model stay as they were.

    In float32 losses agree up to 1e-4 of the loss, and the gradient of each parameter up to 1e-3 of its norm and 1e-5
    of the norm of all; where products are computed in halves, up to 2e-2, 1e-1 and 1e-2.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    devices = {parameter.device for parameter in parameters if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices), evaluating(model), torch.enable_grad():
        own_loss, own_gradients = _with_gradients(own, parameters)
        loss, gradients = _with_gradients(other, parameters)
        is_exact = _is_exact(parameters)
    own_norms_P, norms_P = _norms(own_gradients), _norms(gradients)
    apart_P = _norms([one - other for one, other in zip(own_gradients, gradients, strict=True)])
    of_each, of_all = (1e-3, 1e-5) if is_exact else (1e-1, 1e-2)
    allowed_P = of_each * own_norms_P + of_all * own_norms_P.norm() + 1e-8
    return Agreement(
        own_loss=own_loss,
        own_norm=own_norms_P.norm().item(),
        loss=loss,
        norm=norms_P.norm().item(),
        apart=(apart_P / allowed_P).max().item() if parameters else 0.0,
        is_exact=is_exact,
    )


def _with_gradients(loss_of: Callable[[], Tensor], parameters: Sequence[Tensor]) -> tuple[float, list[Tensor]]:
    loss = loss_of()
    if not loss.requires_grad:
        return loss.item(), [torch.zeros_like(parameter) for parameter in parameters]
    gradients: Sequence[Tensor | None] = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.item(), [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, gradients, strict=True)
    ]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode within, and in its own after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    norms = [torch.linalg.vector_norm(tensor.float()).cpu() for tensor in tensors]
    return torch.stack(norms) if norms else torch.zeros(0)


def _is_exact(parameters: Sequence[Tensor]) -> bool:
    device = parameters[0].device if parameters else torch.device("cpu")
    halves = any(parameter.dtype.itemsize < 4 for parameter in parameters) or torch.is_autocast_enabled(device.type)
    return not halves and _multiplies_in_float32(device)


def _multiplies_in_float32(device: torch.device) -> bool:
    """Whether float32 products are computed as such, and not in bfloat16 or TF32: measured, since switches are many."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(256, 256, generator=generator) for _ in range(2))
    product = (left.to(device) @ right.to(device)).cpu().double()
    return bool((product - left.double() @ right.double()).abs().max() < 1e-3)
