"""What a target is says which loss; sums, never means."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from instar.model.network import DenseForward
from instar.objective import Hard, Objective, judge
from tests.model.helpers import network, prepared


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def assert_agrees(logits_MC: Tensor, target_M: Tensor, wanted_M: Tensor, correct_M: list[bool]) -> None:
    """Losses, gradients and first choices, and the sums of the term."""
    judged = judge(DenseForward(logits_MC), target_M)
    assert judged.loss_M.dtype == torch.float32
    assert torch.allclose(judged.loss_M, wanted_M)
    (mine,) = torch.autograd.grad(judged.loss_M.sum(), logits_MC)
    (theirs,) = torch.autograd.grad(wanted_M.sum(), logits_MC)
    assert torch.allclose(mine, theirs, atol=1e-6)
    assert judged.correct_M.tolist() == correct_M
    outcome = Hard()(DenseForward(logits_MC), target_M)
    assert outcome.total.item() == pytest.approx(wanted_M.sum().item())
    assert int(outcome.correct) == sum(correct_M)
    assert not outcome.correct.requires_grad


def test_classes_are_judged_by_cross_entropy() -> None:
    logits_MC, target_M = drawn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    right = (logits_MC.argmax(-1) == target_M).tolist()
    assert_agrees(logits_MC, target_M, F.cross_entropy(logits_MC, target_M, reduction="none"), right)


def test_numbers_are_judged_by_squared_error_and_never_right() -> None:
    logits_MC, target_M = drawn(5, 1), torch.tensor([0.0, 1.5, -2.0, 7.0, 0.25])
    assert_agrees(logits_MC, target_M, F.mse_loss(logits_MC[:, 0], target_M, reduction="none"), [False] * 5)


def test_sets_of_labels_are_judged_by_binary_cross_entropy_and_right_as_a_whole() -> None:
    logits_MC = torch.tensor([[2.0, -1.0, 3.0], [2.0, -1.0, 3.0], [-1.0, -1.0, -2.0]], requires_grad=True)
    target_MC = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    wanted_MC = F.binary_cross_entropy_with_logits(logits_MC, target_MC, reduction="none")
    assert_agrees(logits_MC, target_MC, wanted_MC.mean(-1), [True, False, True])


def test_terms_add_up_by_weight_and_the_first_counts() -> None:
    ready = prepared("masked_lm")
    built = network("bert")
    one, three = (Objective(built, terms)(ready) for terms in ([Hard()], [Hard(), Hard(weight=2.0)]))
    assert three.total.item() == pytest.approx(3 * one.total.item(), rel=1e-6)
    assert int(three.correct) == int(one.correct)


def test_a_rank_without_targets_takes_part_with_nothing() -> None:
    ready = prepared("masked_lm")
    nothing = Objective(network("bert"), [Hard()])(replace(ready, read_M=ready.read_M[:0], target_M=ready.target_M[:0]))
    nothing.total.backward()
    assert (nothing.total.item(), nothing.correct.item()) == (0, 0)
