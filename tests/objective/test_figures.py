"""Figures of training come from its own forward pass: same batch, no gradient, and no product is made twice."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from instar import metric
from instar.masking.statistic import StatisticName
from instar.model import cross_entropy
from instar.model.network import DenseForward
from instar.objective import ForwardPass, Hard, Objective
from instar.objective.figures import Mean, entropy, p_true
from instar.task import Classify
from instar.trainer.callbacks.masking_store import Measures
from tests.model.helpers import batch, network, prepared

FIGURES = {"p_true": Mean(p_true), "entropy": Mean(entropy, wants_entropy=True)}
NAMES: tuple[StatisticName, ...] = ("one_minus_p", "nll", "wrong", "entropy", "progress", "excess")
WATCHES = {f"masking {name}": Measures(name) for name in NAMES}


def trained(family: str, watches: dict[str, Any], figures: dict[str, Any]) -> tuple[int, list[torch.Tensor], Any, Any]:
    """(operations of a step, gradients, what was seen, logits)."""
    ready, built = prepared("masked_lm"), network(family)
    built.eval()
    objective = Objective(built, [Hard()])
    objective.watches |= watches
    objective.figures |= figures
    with FlopCounterMode(display=False) as counted:
        outcome = objective(ready)
        outcome.total.backward()
    gradients = [one.grad.clone() for one in built.parameters() if one.grad is not None]
    with torch.no_grad():
        logits_MV = built(ready).logits_MV()
    return counted.get_total_flops(), gradients, outcome, (logits_MV, ready.target_M)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("chunked", [False, True])
def test_all_figures_cost_no_product_and_change_no_gradient(
    family: str,
    chunked: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if chunked:
        monkeypatch.setattr(cross_entropy, "MAX_LOGITS", 1)  # 32 places a chunk
    flops, gradients, _, _ = trained(family, {}, {})
    watched_flops, watched_gradients, outcome, (logits_MV, target_M) = trained(family, WATCHES, FIGURES)
    assert watched_flops == flops > 0
    assert len(gradients) > 5
    assert all(torch.equal(one, two) for one, two in zip(gradients, watched_gradients, strict=True))
    assert set(outcome.watched) == set(WATCHES)
    said = torch.distributions.Categorical(logits=logits_MV.double())
    right_M = said.probs.gather(1, target_M[:, None])[:, 0].float()
    for name, wanted_M in (
        ("masking one_minus_p", 1 - right_M),
        ("masking entropy", said.entropy().float()),
    ):
        torch.testing.assert_close(outcome.watched[name], wanted_M, rtol=1e-4, atol=1e-5)
        assert not outcome.watched[name].requires_grad
    for name, wanted_M in (("p_true", right_M), ("entropy", said.entropy())):
        value = FIGURES[name].value(outcome.figures[name].tolist(), len(target_M))
        assert value == pytest.approx(float(wanted_M.double().mean()), rel=1e-4)


def test_entropy_is_made_only_where_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    made = torch.special.entr
    monkeypatch.setattr(torch.special, "entr", lambda given: asked.append(len(given)) or made(given))
    trained("bert", {}, {"p_true": FIGURES["p_true"]})
    assert not asked
    trained("bert", {}, {"entropy": FIGURES["entropy"]})
    assert asked


def test_a_head_that_is_not_known_gives_its_entropy_too() -> None:
    logits_MV, target_M = torch.randn(5, 7, requires_grad=True), torch.arange(5)
    from instar.model.heads import dense_cross_entropy

    scores = dense_cross_entropy(logits_MV, target_M, with_entropy=True)
    torch.testing.assert_close(scores.entropy_M, torch.distributions.Categorical(logits=logits_MV.detach()).entropy())
    assert dense_cross_entropy(logits_MV, target_M).entropy_M is None


@pytest.mark.parametrize("kind", ["class", "many", "number"])
def test_figures_of_labels_are_the_scores_of_the_same_outputs(kind: str) -> None:
    """In parts, added up: what evaluation gives for all rows at once."""
    logits_DC = torch.randn(40, 1 if kind == "number" else 3, generator=torch.Generator().manual_seed(1))
    target_D = torch.arange(40) % 3
    if kind == "many":
        target_D = (torch.arange(120).reshape(40, 3) % 4 == 0).float()
    if kind == "number":
        target_D = logits_DC[:, 0] + torch.linspace(-1, 2, 40)
    figures = Classify().figures(kind, 3)
    sums = {name: torch.zeros(figure.size, dtype=torch.float64) for name, figure in figures.items()}
    for part in (slice(0, 7), slice(7, 40)):
        outputs = DenseForward(logits_DC[part])
        outputs.with_entropy = True
        one = ForwardPass(outputs, replace(batch(), target_M=target_D[part]))
        for name, figure in figures.items():
            sums[name] += figure.sums(one)
    scores = {"class": metric.classification_scores, "many": metric.multi_label_scores}
    if kind == "number":
        wanted = metric.regression_scores(target_D, logits_DC[:, 0])
    else:
        wanted = scores[kind](target_D, logits_DC, ["a", "b", "c"])
    for name in figures.keys() & wanted.keys():
        assert figures[name].value(sums[name].tolist(), 40) == pytest.approx(wanted[name], rel=1e-6), name
    assert figures.keys() - wanted.keys() <= {"p_true", "entropy"}
