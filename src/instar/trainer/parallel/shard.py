"""Weights in parts, gathered when a layer needs them: PyTorch's FSDP2."""

from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from instar.trainer.parallel.config import Fsdp
from instar.trainer.parallel.layers import layers_of

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def shard(module: nn.Module, config: Fsdp, mesh: Any) -> None:
    """Divide the module's weights over the mesh, in place; names of parameters stay.

    The rest of the module (embeddings, head) stays gathered from its forward pass on, so that losses that are
    computed from the head's weights after it find them whole; `settle` lets go of them.
    """
    options: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(
            param_dtype=_DTYPES.get(config.param_dtype or ""), reduce_dtype=_DTYPES.get(config.reduce_dtype or "")
        ),
        "offload_policy": CPUOffloadPolicy(pin_memory=mesh.device_type == "cuda") if config.cpu_offload else _STAY,
    }
    layers = layers_of(module, config)
    for layer in layers:
        fully_shard(layer, reshard_after_forward=config.reshard_after_forward, **options)
    fully_shard(module, reshard_after_forward=False, **options)
    for number, layer in enumerate(layers if config.forward_prefetch else ()):
        ahead = layers[number + 1 : number + 2 + config.forward_prefetch]
        assert isinstance(layer, FSDPModule)
        layer.set_modules_to_forward_prefetch([one for one in ahead if isinstance(one, FSDPModule)])


_STAY = OffloadPolicy()


@torch.no_grad()
def agree(module: nn.Module, device: torch.device) -> None:
    """Give every process the main one's weights and buffers, one after the other."""
    for tensor in (*module.parameters(), *module.buffers()):
        sent = tensor.data.to(device).contiguous()
        distributed.broadcast(sent, 0)
        tensor.data.copy_(sent)


def defer_replicas(module: nn.Module, deferred: bool) -> None:  # noqa: FBT001
    """Leave the exchange between replicas of the sharded weights to a later backward pass, or do it in the next."""
    for inner in module.modules():
        if isinstance(inner, FSDPModule):
            inner.set_requires_all_reduce(not deferred, recurse=False)
