"""Whole tensors from parts, and parts of whole tensors: what checkpoints hold does not depend on who trained."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


def is_divided(tensor: Tensor) -> bool:
    """True for a tensor of which this process has a part (PyTorch's DTensor)."""
    return hasattr(tensor, "device_mesh")


def local(tensor: Any) -> Tensor:
    """This process's part; of a tensor that is not divided, all of it. Shares its memory."""
    mine: Tensor = tensor.to_local() if is_divided(tensor) else tensor
    return mine


def whole(tensor: Any) -> Tensor:
    """The whole tensor; every process that has a part must ask for it."""
    if not is_divided(tensor):
        kept: Tensor = tensor.detach()
        return kept
    complete: Tensor = tensor.detach().to(tensor.device_mesh.device_type).full_tensor()
    return complete


def part_of(tensor: Tensor, like: Any) -> Tensor:
    """This process's part of a whole tensor, divided as `like` is; of one that is not divided, all of it."""
    if not is_divided(like):
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    mesh = like.device_mesh
    return distribute_tensor(tensor.to(mesh.device_type), mesh, like.placements, src_data_rank=None).to(like.device)


def settle(module: nn.Module) -> None:
    """Let go of gathered weights: until the next forward pass the parameters are the parts that are trained.

    Whoever reads or changes parameters between steps calls it first, or a later pass would see old weights.
    """
    for inner in module.modules():
        reshard = getattr(inner, "reshard", None)
        if callable(reshard) and hasattr(inner, "unshard"):  # FSDP2's methods
            reshard()


def whole_tensors(named: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Whole tensors in the CPU's memory, one after the other; a process that does not keep them helps and gets none.

    Two names of one tensor are two names of one tensor.
    """
    made: dict[int, Tensor | None] = {}
    for tensor in named.values():
        if id(tensor) not in made:
            complete = whole(tensor)
            made[id(tensor)] = complete.cpu() if keep else None
    found = {name: made[id(tensor)] for name, tensor in named.items()}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


@torch.no_grad()
def load_whole(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give parameters and buffers the values of these names; KeyError for a name that the module does not have."""
    own: Mapping[str, Any] = module.state_dict(keep_vars=True)
    for name, value in weights.items():
        own[name].copy_(part_of(value.to(own[name].dtype), own[name]))


def whole_state(optimizer: torch.optim.Optimizer, *, keep: bool) -> dict[str, Any]:
    """The optimizer's `state_dict` with whole tensors in the CPU's memory; without values where they are not kept."""
    state = optimizer.state_dict()
    values = {number: _whole_values(values, keep=keep) for number, values in state["state"].items()}
    return {**state, "state": values if keep else {}}


def _whole_values(values: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    tensors = {kind: value for kind, value in values.items() if isinstance(value, Tensor)}
    return {**values, **whole_tensors(tensors, keep=keep)}


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take back a `state_dict` of whole tensors; each process keeps its part."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    divided = {number: dict(_parts(values, parameters[number])) for number, values in state["state"].items()}
    optimizer.load_state_dict({**state, "state": divided})


def _parts(values: Mapping[str, Any], parameter: Tensor) -> Iterator[tuple[str, Any]]:
    for kind, value in values.items():
        follows = isinstance(value, Tensor) and value.shape == parameter.shape
        yield kind, part_of(value, parameter) if follows else value
