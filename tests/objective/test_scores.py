"""What a target is says which loss; sums, never means."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from instar.model import Network
from instar.model.network import DenseForward
from instar.objective import ForwardPass, Hard, Needs, Objective, TermConfig, score_targets
from instar.objective.figures import Mean, correct
from tests.model.helpers import batch, network, prepared


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def assert_agrees(logits_MC: Tensor, target_M: Tensor, wanted_M: Tensor, correct_M: list[bool]) -> None:
    """Losses, gradients and first choices, and the sums of the term."""
    scored = score_targets(DenseForward(logits_MC), target_M)
    assert scored.loss_M.dtype == torch.float32
    assert torch.allclose(scored.loss_M, wanted_M)
    (mine,) = torch.autograd.grad(scored.loss_M.sum(), logits_MC)
    (theirs,) = torch.autograd.grad(wanted_M.sum(), logits_MC)
    assert torch.allclose(mine, theirs, atol=1e-6)
    assert scored.correct_M.tolist() == correct_M
    one = ForwardPass(DenseForward(logits_MC), replace(batch(), target_M=target_M))
    assert Hard().build(network("bert"))(one).item() == pytest.approx(wanted_M.sum().item())
    assert one.correct_M.tolist() == correct_M
    assert not one.nll_M.requires_grad


def test_classes_are_scored_by_cross_entropy() -> None:
    logits_MC, target_M = drawn(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    right = (logits_MC.argmax(-1) == target_M).tolist()
    assert_agrees(logits_MC, target_M, F.cross_entropy(logits_MC, target_M, reduction="none"), right)


def test_numbers_are_scored_by_squared_error_and_never_right() -> None:
    logits_MC, target_M = drawn(5, 1), torch.tensor([0.0, 1.5, -2.0, 7.0, 0.25])
    assert_agrees(logits_MC, target_M, F.mse_loss(logits_MC[:, 0], target_M, reduction="none"), [False] * 5)


def test_sets_of_labels_are_scored_by_binary_cross_entropy_and_right_as_a_whole() -> None:
    logits_MC = torch.tensor([[2.0, -1.0, 3.0], [2.0, -1.0, 3.0], [-1.0, -1.0, -2.0]], requires_grad=True)
    target_MC = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    wanted_MC = F.binary_cross_entropy_with_logits(logits_MC, target_MC, reduction="none")
    assert_agrees(logits_MC, target_MC, wanted_MC.mean(-1), [True, False, True])


class Small(TermConfig):
    """The mean square of an inner layer's hidden states: a term that needs more than the last layer."""

    kind: str = "small"
    layer: int = 1

    def build(self, network: Network, teacher: Network | None = None) -> "SmallTerm":
        del teacher
        return SmallTerm(self.weight, Needs(layers=(self.layer,)))


@dataclass(frozen=True)
class SmallTerm:
    weight: float
    needs: Needs

    def __call__(self, one: ForwardPass) -> Tensor:
        return one.outputs.hidden_MH(self.needs.layers[0]).square().mean(-1).sum()


def test_terms_add_up_by_weight_and_each_has_its_sum() -> None:
    ready, built = prepared("masked_lm"), network("bert").eval()
    alone, inner = Objective(built, [Hard()])(ready), Objective(built, [Small()])(ready)
    asked: list[tuple[int, ...]] = []
    built.register_forward_pre_hook(lambda _, given: asked.append(given[1]))
    both = Objective(built, [Hard(weight=2.0), Small(weight=0.5), Small(layer=0)])
    outcome = both(ready)
    assert asked == [(-1, 0, 1)], "the network is asked once for the union"
    assert both.names == ("loss_hard", "loss_small", "loss_small_2")
    assert outcome.terms["hard"].item() == pytest.approx(alone.total.item(), rel=1e-6)
    assert outcome.terms["small"].item() == pytest.approx(inner.total.item(), rel=1e-6)
    wanted = 2 * outcome.terms["hard"] + 0.5 * outcome.terms["small"] + outcome.terms["small_2"]
    assert outcome.total.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert alone.terms == {}
    assert not any(value.requires_grad for value in outcome.terms.values())


def test_a_rank_without_targets_takes_part_with_nothing() -> None:
    ready = prepared("masked_lm")
    objective = Objective(network("bert"), [Hard(), Small()])
    objective.figures["accuracy"] = Mean(correct)
    nothing = objective(replace(ready, read_M=ready.read_M[:0], target_M=ready.target_M[:0]))
    something = objective(ready)
    nothing.total.backward()
    assert nothing.total.item() == 0
    assert [*nothing.terms, *nothing.figures] == [*something.terms, *something.figures]
    assert all(not value.any() for value in (*nothing.terms.values(), *nothing.figures.values()))


class Taught(Small):
    """Agree with a teacher's hidden states."""

    def build(self, network: Network, teacher: Network | None = None) -> "TaughtTerm":
        return TaughtTerm(self.weight, Needs(layers=(self.layer,), teacher=True))


@dataclass(frozen=True)
class TaughtTerm(SmallTerm):
    def __call__(self, one: ForwardPass) -> Tensor:
        assert one.teacher is not None
        layer = self.needs.layers[0]
        return (one.outputs.hidden_MH(layer) - one.teacher.hidden_MH(layer)).square().sum()


def test_a_term_that_needs_a_teacher_gets_its_outputs_without_gradients() -> None:
    ready, student, teacher = prepared("masked_lm"), network("bert").eval(), network("bert", seed=2).eval()
    outcome = Objective(student, [Taught()], teacher)(ready)
    outcome.total.backward()
    with torch.no_grad():
        wanted = student(ready, (1,)).hidden_MH(1) - teacher(ready, (1,)).hidden_MH(1)
    assert outcome.total.item() == pytest.approx(wanted.square().sum().item(), rel=1e-5)
    assert all(one.grad is None for one in teacher.parameters())
    same = Objective(student, [Taught()], student)(ready)
    assert same.total.item() == 0
