import torch
from transformers.activations import NewGELUActivation

from instar.model.activation import swap_activations


def test_the_one_pass_gelu_equals_the_composed_one() -> None:
    composed = torch.nn.Sequential(NewGELUActivation(), torch.nn.ReLU())
    values = torch.linspace(-12, 12, 4001, requires_grad=True)
    wanted = composed(values)
    (gradient,) = torch.autograd.grad(wanted.sum(), values)
    swap_activations(composed)
    assert type(composed[0]) is not NewGELUActivation
    assert type(composed[1]) is torch.nn.ReLU
    torch.testing.assert_close(composed(values), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(composed(values).sum(), values)[0], gradient, atol=1e-5, rtol=1e-5)
