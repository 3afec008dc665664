"""Muon (Jordan et al. 2024) for matrices and AdamW for the rest, as one optimizer."""

# Letters: B matrices of one shape, M rows, N columns.

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

# Slope at zero over exactness at one: five steps bring singular values of 0.01 and more to between 0.7 and 1.2.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_MAX_BATCH = 1 << 24


class MuonAdamW(torch.optim.Optimizer):
    """Steps groups with `orthogonal` along the nearest orthogonal matrix of their momentum, the others by AdamW.

    A matrix's step has the size that AdamW's would have (Liu et al. 2025), so one rate and one decay serve all groups.
    State: `momentum_buffer` of a matrix; `exp_avg`, `exp_avg_sq` and `step` of the rest. Like PyTorch's fused
    optimizers it reads `found_inf` and `grad_scale`: a step whose `found_inf` is not zero changes nothing, and that is
    decided on the device. Sharded matrices are put together for the step, on every rank alike.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum: float = 0.95,
        nesterov: bool = True,
        num_iterations: int = 5,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": 0.0,
            "betas": betas,
            "eps": eps,
            "momentum": momentum,
            "nesterov": nesterov,
            "num_iterations": num_iterations,
            "orthogonal": False,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["orthogonal"] and parameter.ndim != 2:
                    raise ValueError(f"wanted matrices in an orthogonal group; got the shape {list(parameter.shape)}")
        self._link()

    def _link(self) -> None:
        """AdamW over the groups and the state of this optimizer itself, so that there is one of each."""
        rest = self._rest()
        self._adamw = torch.optim.AdamW(rest, lr=self.defaults["lr"], fused=True) if rest else None
        if self._adamw is not None:
            self._adamw.state = self.state

    def _rest(self) -> list[dict[str, Any]]:
        return [group for group in self.param_groups if not group["orthogonal"]]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._link()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        del closure
        found_inf, grad_scale = getattr(self, "found_inf", None), getattr(self, "grad_scale", None)
        for group in self.param_groups:
            if group["orthogonal"]:
                for batch in _batches([parameter for parameter in group["params"] if parameter.grad is not None]):
                    self._turn(batch, group, found_inf, grad_scale)
        if self._adamw is not None:
            self._adamw.param_groups = self._rest()  # whoever shards a model cuts groups
            self._adamw.found_inf, self._adamw.grad_scale = found_inf, grad_scale  # type: ignore[attr-defined]
            self._adamw.step()

    def _turn(
        self, batch: list[Tensor], group: dict[str, Any], found_inf: Tensor | None, grad_scale: Tensor | None
    ) -> None:
        """One step of matrices of one shape."""
        moved: float | Tensor = 1.0 if found_inf is None else 1.0 - found_inf.to(batch[0].device)
        updates = [self._momentum(parameter, group, found_inf, grad_scale) for parameter in batch]
        turned_BMN = orthogonalize(torch.stack(updates), group["num_iterations"])
        rate = group["lr"] * moved
        size = 0.2 * math.sqrt(max(batch[0].shape))
        for parameter, turned_MN in zip(batch, turned_BMN, strict=True):
            weight_MN = _local(parameter)
            weight_MN.mul_(1.0 - rate * group["weight_decay"])
            weight_MN.sub_(_part(turned_MN.to(weight_MN.dtype), parameter) * (rate * size))

    def _momentum(
        self, parameter: Tensor, group: dict[str, Any], found_inf: Tensor | None, grad_scale: Tensor | None
    ) -> Tensor:
        """The whole matrix to turn; the running mean of gradients is left alone by a step that is not finite."""
        assert parameter.grad is not None
        state, gradient = self.state[parameter], _local(parameter.grad)
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        mean = _local(state["momentum_buffer"])
        share: float | Tensor = 1.0 - group["momentum"]
        if grad_scale is not None:
            gradient = gradient / grad_scale.to(gradient.device)
        if found_inf is not None:
            is_lost = found_inf.to(gradient.device) != 0
            gradient = torch.where(is_lost, 0.0, gradient)
            share = share * (1.0 - found_inf.to(mean))
        mean.lerp_(gradient, share)
        return _whole(gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean, parameter)


def orthogonalize(update_BMN: Tensor, num_iterations: int = 5) -> Tensor:
    """The matrices with all singular values near 1, of which the small ones stay small; in bfloat16 on a GPU."""
    a, b, c = _QUINTIC
    is_tall = update_BMN.shape[-2] > update_BMN.shape[-1]
    x_BMN = update_BMN.to(torch.bfloat16 if update_BMN.is_cuda else torch.float32)
    x_BMN = x_BMN.mT if is_tall else x_BMN
    x_BMN = x_BMN / torch.linalg.matrix_norm(x_BMN, keepdim=True).clamp(min=1e-7)
    for _ in range(num_iterations):
        gram_BMM = x_BMN @ x_BMN.mT
        gram_BMM = torch.baddbmm(gram_BMM, gram_BMM, gram_BMM, beta=b, alpha=c)
        x_BMN = torch.baddbmm(x_BMN, gram_BMM, x_BMN, beta=a)
    return x_BMN.mT if is_tall else x_BMN


def _batches(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices of one shape, type and device together, as many as are small beside the weights."""
    alike: dict[Any, list[Tensor]] = {}
    for parameter in parameters:
        alike.setdefault((parameter.shape, parameter.dtype, parameter.device), []).append(parameter)
    for members in alike.values():
        size = max(1, _MAX_BATCH // members[0].numel())
        yield from (members[first : first + size] for first in range(0, len(members), size))


def _local(tensor: Tensor) -> Tensor:
    """This rank's part, sharing memory; the tensor itself unless it is sharded."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def _whole(part: Tensor, like: Tensor) -> Tensor:
    """The matrix of which `part` is this rank's, where `like` is sharded."""
    if not hasattr(like, "to_local"):
        return part
    from torch.distributed.tensor import DTensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    whole: Tensor = DTensor.from_local(
        part.to(mesh.device_type), mesh, placements, run_check=False, shape=like.shape, stride=like.stride()
    ).full_tensor()
    return whole


def _part(whole: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a matrix that all ranks have, where `like` is sharded."""
    if not hasattr(like, "to_local"):
        return whole
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(whole, mesh, placements, src_data_rank=None).to_local().to(like.device)
