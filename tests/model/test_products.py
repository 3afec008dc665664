"""Products are the same bits wherever their operands lie in memory."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from instar.core.products import SETTING, VALUE, ask_for_reproducible_products
from instar.model.products import SHAPES, depend_on_alignment, product_depends
from instar.model.speed import fast_cpu
from tests.model.test_memory import shifted

WIDER = ((7, 128, 3), (64, 64, 64), (100, 256, 30), (1, 128, 1000), (5, 1, 5), (130, 31, 129))
OPERATIONS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "matrix by vector": (torch.mv, ((33, 17), (17,))),
    "dot": (torch.dot, ((67,), (67,))),
    "batched": (torch.bmm, ((3, 7, 16), (3, 16, 2))),
    "attention": (F.scaled_dot_product_attention, ((1, 2, 9, 8), (1, 2, 9, 8), (1, 2, 9, 8))),
    "linear": (F.linear, ((18, 64), (1, 64), (1,))),
    "exponential": (torch.exp, ((67,),)),
    "error function": (torch.erf, ((67,),)),
    "sum": (torch.sum, ((1003,),)),
    "normalised": (lambda values: F.layer_norm(values, (19,)), ((5, 19),)),
}


@pytest.fixture(params=[1, 2])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(1)


@pytest.fixture(params=["plain", "fast"])
def _switched(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "plain":
        yield
        return
    with fast_cpu():
        yield


@pytest.mark.usefixtures("_threads", "_switched")
@pytest.mark.parametrize("shape", [*SHAPES, *WIDER])
def test_products_at_any_address(shape: tuple[int, int, int]) -> None:
    assert not product_depends(*shape)


@pytest.mark.usefixtures("_threads", "_switched")
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_at_any_address_forward_and_backward(name: str) -> None:
    function, shapes = OPERATIONS[name]
    generator = torch.Generator().manual_seed(0)
    operands = [torch.randn(shape, generator=generator) for shape in shapes]
    assert len({_bits(function, operands, shift) for shift in range(16)}) == 1


def _bits(function: Callable[..., Tensor], operands: list[Tensor], shift: int) -> bytes:
    """The result and the gradients, with each operand at another address."""
    placed = [shifted(operand, shift + index).requires_grad_() for index, operand in enumerate(operands)]
    result = function(*placed)
    result.backward(shifted(torch.ones_like(result), shift))
    return b"".join(tensor.detach().numpy().tobytes() for tensor in (result, *(one.grad for one in placed)))


def test_the_answer_is_this_process() -> None:
    assert depend_on_alignment() is False


def test_a_value_of_the_user_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "COMPATIBLE")
    ask_for_reproducible_products()
    assert os.environ[SETTING] == "COMPATIBLE"
    monkeypatch.delenv(SETTING)
    ask_for_reproducible_products()
    assert os.environ[SETTING] == VALUE


@pytest.mark.slow
def test_the_command_owns_its_process() -> None:
    """Its products are reproducible although nobody exported anything, also where torch was loaded before."""
    code = """
import torch, sys
from contextlib import suppress
from instar.cli import main
with suppress(SystemExit):
    main(["--version"])
from instar.model.products import depend_on_alignment
sys.exit(depend_on_alignment())
"""
    environment = {name: value for name, value in os.environ.items() if name != SETTING}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, timeout=900)
