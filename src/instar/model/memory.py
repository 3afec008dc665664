"""Weights in aligned memory of their own, whoever loaded them.

What `safetensors` loads are views into a mapped file, at any address. Products of matrices may depend on the alignment
of their operands in the last bit, and a mapped file could change, or shrink and end the process, while a run goes on.
"""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

ALIGNMENT = 64
"""Bytes; what PyTorch's own allocator gives."""


@torch.no_grad()
def own_memory(module: nn.Module) -> int:
    """Move parameters and buffers of the CPU that lie elsewhere into aligned memory that PyTorch owns; how many moved.

    The parameters stay the same objects (`.data` is set), and tied ones stay tied. Left where they are: memory that
    processes share on purpose, and tensors that overlap others of the module or divide one buffer with them.
    """
    tied: dict[tuple[object, ...], list[Tensor]] = {}
    for tensor in filter(_is_plain, chain(module.parameters(), module.buffers())):
        view = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        tied.setdefault(view, []).append(tensor)
    moved = 0
    for views in _alone(list(tied.values())):
        if _is_own(views[0]):
            continue
        mine = views[0].detach().clone()
        for tensor in views:
            tensor.data = mine
        moved += len(views)
    return moved


def _is_plain(tensor: Tensor) -> bool:
    if is_lazy(tensor) or tensor.device.type != "cpu" or tensor.layout is not torch.strided:
        return False
    is_shared = tensor.is_shared()
    return type(tensor.data) is Tensor and tensor.numel() > 0 and not is_shared and not tensor.is_inference()


def _is_own(tensor: Tensor) -> bool:
    """True for aligned memory that PyTorch allocated; only such memory can be resized."""
    return tensor.data_ptr() % ALIGNMENT == 0 and tensor.untyped_storage().resizable()


def _alone(groups: list[list[Tensor]]) -> list[list[Tensor]]:
    """Those groups whose memory no other group uses."""
    extents = sorted((*_extent(group[0]), index) for index, group in enumerate(groups))
    overlapping: set[int] = set()
    end, last = 0, -1
    for start, stop, index in extents:
        if start < end:
            overlapping |= {last, index}
        if stop > end:
            end, last = stop, index
    return [group for index, group in enumerate(groups) if index not in overlapping]


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First and last address: of the whole buffer where PyTorch allocated it, since all that divide it belong together.

    A mapped file is one buffer or many, by the version of the library that mapped it, and only its views count.
    """
    storage = tensor.untyped_storage()
    if storage.resizable():
        return storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    elements = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + elements * tensor.element_size()
