"""Whether float32 products of this process depend on where their operands lie in memory."""

from functools import cache
from itertools import product

import torch
from torch import Tensor

from instar.model.memory import ALIGNMENT

SHAPES = ((18, 64, 1), (18, 64, 4), (33, 17, 9), (1, 64, 64))
"""(rows, inner, columns) of products which a library without strict reproducibility computes by alignment."""


@cache
def depend_on_alignment() -> bool:
    """True if some product gives other bits at another address; tried once, in a few milliseconds.

    The matmul library decides at its first product, so that the answer holds for the life of the process.
    """
    return any(product_depends(*shape, step=5) for shape in SHAPES)


def product_depends(rows: int, inner: int, columns: int, step: int = 1) -> bool:
    """True if a product of these sizes differs at some of the addresses that lie `step` numbers apart."""
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(rows, inner, generator=generator), torch.randn(columns, inner, generator=generator)
    wanted = _shifted(left, 0) @ _shifted(right, 0).T
    shifts = range(0, ALIGNMENT // left.element_size(), step)
    lefts, rights = ([_shifted(operand, shift) for shift in shifts] for operand in (left, right))
    return not all(torch.equal(one @ other.T, wanted) for one, other in product(lefts, rights))


def _shifted(tensor: Tensor, numbers: int) -> Tensor:
    """The same values `numbers` numbers behind an aligned address."""
    memory = tensor.new_empty(numbers + tensor.numel())
    return memory[numbers:].view(tensor.shape).copy_(tensor)
