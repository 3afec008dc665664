"""Two ways to compute the loss of one batch, compared on the user's own model and data."""

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
    difference: float
    """Norm of the difference of the two gradients."""
    is_exact: bool
    """Whether both were computed in float32; otherwise rounding alone makes them differ more."""

    def __bool__(self) -> bool:
        """True where the two agree to rounding: 1e-4 of the loss and 1e-3 of the gradient, 2e-2 and 1e-1 in halves."""
        of_loss, of_gradient = (1e-4, 1e-3) if self.is_exact else (2e-2, 1e-1)
        same_loss = abs(self.loss - self.own_loss) <= of_loss * max(1.0, abs(self.own_loss))
        return same_loss and self.difference <= of_gradient * self.own_norm + 1e-5

    def __str__(self) -> str:
        return f"loss {self.own_loss:.6g} and {self.loss:.6g}, gradient norm {self.own_norm:.6g} and {self.norm:.6g}"


def compare(model: nn.Module, own: Callable[[], Tensor], other: Callable[[], Tensor]) -> Agreement:
    """Compute both losses with dropout off; gradients, random draws and modes of the model stay as they were."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    devices = {parameter.device for parameter in parameters if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices), _evaluating(model), torch.enable_grad():
        own_loss, own_gradients = _with_gradients(own, parameters)
        loss, gradients = _with_gradients(other, parameters)
    differences = [one - other for one, other in zip(own_gradients, gradients, strict=True)]
    return Agreement(
        own_loss=own_loss,
        own_norm=_norm(own_gradients),
        loss=loss,
        norm=_norm(gradients),
        difference=_norm(differences),
        is_exact=_is_exact(parameters),
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
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _norm(tensors: Sequence[Tensor]) -> float:
    norms = [torch.linalg.vector_norm(tensor.float()) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack([norm.cpu() for norm in norms])).item() if norms else 0.0


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
