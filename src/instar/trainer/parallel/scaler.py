"""Loss scaling in half precision where every process has a part of the gradient."""

import torch
from torch import Tensor, distributed

from instar.trainer.parallel.parts import local


class ShardedScaler(torch.amp.GradScaler):
    """PyTorch's scaler over local parts; one process that meets an infinite number makes all skip the step."""

    def _unscale_grads_(
        self,
        optimizer: torch.optim.Optimizer,
        inv_scale: Tensor,
        found_inf: Tensor,
        allow_fp16: bool,  # noqa: FBT001  PyTorch's own signature
    ) -> dict[torch.device, Tensor]:
        del allow_fp16
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        grads: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                grad = local(parameter.grad)
                grads.setdefault((grad.device, grad.dtype), []).append(grad)
        found: dict[torch.device, Tensor] = {}
        with torch.no_grad():
            for (device, _), parts in grads.items():
                here = found.setdefault(device, torch.zeros_like(found_inf, device=device))
                torch._amp_foreach_non_finite_check_and_unscale_(parts, here, inv_scale.to(device))
        # One exchange on every process, whether it has gradients and on how many devices.
        everywhere = torch.zeros_like(found_inf)
        for here in found.values():
            everywhere = torch.maximum(everywhere, here.to(found_inf.device))
        distributed.all_reduce(everywhere, distributed.ReduceOp.MAX)
        for here in found.values():
            here.copy_(everywhere)
        return found
