"""The norm of a gradient of which every process has a part."""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, Partial, Replicate


@torch.no_grad()
def clip_sharded(parameters: Iterable[nn.Parameter], max_norm: float, device: torch.device) -> Tensor:
    """Scale the gradient down to `max_norm`; returns the norm of the whole gradient, the same on every process."""
    kinds: dict[object, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            kinds.setdefault(_kind(parameter), []).append(_local(parameter))
    squares = [_square(kind, grads, device) for kind, grads in kinds.items()]
    norm = torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=device)
    factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)
    for grads in kinds.values():
        torch._foreach_mul_(grads, factor.to(grads[0].device))
    return norm


def _kind(parameter: nn.Parameter) -> object:
    """Equal for parameters that are divided over the same processes in the same way."""
    where = parameter.device
    return (where, parameter.device_mesh, parameter.placements) if isinstance(parameter, DTensor) else (where,)


def _local(parameter: nn.Parameter) -> Tensor:
    """This process's part of a gradient, laid out as its parameter is."""
    grad = parameter.grad
    assert grad is not None
    if not isinstance(grad, DTensor):
        return grad
    assert isinstance(parameter, DTensor)
    if any(isinstance(placement, Partial) for placement in grad.placements):
        grad = grad.redistribute(parameter.device_mesh, parameter.placements)
        parameter.grad = grad
    local: Tensor = grad.to_local()
    return local


def _square(kind: object, grads: list[Tensor], device: torch.device) -> Tensor:
    """The squared norm of gradients of one kind, over all processes that have a part of them."""
    norms = torch.stack([norm.to(device) for norm in torch._foreach_norm([grad.float() for grad in grads])])
    square = norms.square().sum()
    if isinstance(kind, tuple) and len(kind) == 3:
        _, mesh, placements = kind
        for axis, placement in enumerate(placements):
            if not isinstance(placement, Replicate):
                distributed.all_reduce(square, group=mesh.get_group(axis))
    return square
