"""The chunked output layer equals the dense one: values, gradients, weightings."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.model import cross_entropy
from instar.model.cross_entropy import linear_cross_entropy
from tests.model.helpers import assert_same_gradients, mean_loss, network, prepared, stock


def tensors(places: int, vocab: int, *, bias: bool, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(places, 8, generator=generator, requires_grad=True)
    weight = torch.randn(vocab, 8, generator=generator, requires_grad=True)
    offset = torch.randn(vocab, generator=generator, requires_grad=True) if bias else None
    return hidden, weight, offset, torch.randint(0, vocab, (places,), generator=generator)


def gradients(total, *inputs):
    return torch.autograd.grad(total, [x for x in inputs if x is not None])


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "MAX_LOGITS", 1)  # 32 places a chunk


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("places", [1, 32, 33, 100])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("weighting", ["sum", "scaled", "each"])
def test_equals_dense(places, bias, weighting):
    hidden, weight, offset, target = tensors(places, 50, bias=bias)
    factors = {"sum": torch.ones(places), "scaled": torch.full((places,), -3.5), "each": torch.linspace(0, 2, places)}
    reduce = (lambda nll: nll.sum()) if weighting == "sum" else (lambda nll: (nll * factors[weighting]).sum())
    logits = F.linear(hidden, weight, offset)
    dense = F.cross_entropy(logits, target, reduction="none")
    scores = linear_cross_entropy(hidden, weight, offset, target)
    torch.testing.assert_close(scores.nll_M, dense, rtol=1e-5, atol=1e-6)
    assert torch.equal(scores.correct_M, logits.argmax(1) == target)
    for got, wanted in zip(
        gradients(reduce(scores.nll_M), hidden, weight, offset),
        gradients(reduce(dense), hidden, weight, offset),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_one_factor_after_the_sum():
    hidden, weight, offset, target = tensors(40, 50, bias=True)
    got = gradients(linear_cross_entropy(hidden, weight, offset, target).nll_M.sum() / 7, hidden, weight, offset)
    dense = F.cross_entropy(F.linear(hidden, weight, offset), target, reduction="sum") / 7
    for mine, wanted in zip(got, gradients(dense, hidden, weight, offset), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-6)


def test_backward_twice_gives_the_same():
    hidden, weight, offset, target = tensors(5, 50, bias=True)
    total = 3 * linear_cross_entropy(hidden, weight, offset, target).nll_M.sum()
    first = torch.autograd.grad(total, [hidden, weight], retain_graph=True)
    second = torch.autograd.grad(total, [hidden, weight])
    for one, two in zip(first, second, strict=True):
        torch.testing.assert_close(one, two)


def test_only_wanted_gradients_are_made():
    hidden, weight, _, target = tensors(5, 50, bias=False)
    total = linear_cross_entropy(hidden, weight.detach(), None, target).nll_M.sum()
    (got,) = torch.autograd.grad(total, [hidden])
    (wanted,) = torch.autograd.grad(F.cross_entropy(hidden @ weight.detach().T, target, reduction="sum"), [hidden])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_no_places():
    hidden, weight, offset, target = tensors(0, 50, bias=True)
    total = linear_cross_entropy(hidden, weight, offset, target).nll_M.sum()
    total.backward()
    assert total.item() == 0
    assert not weight.grad.any()


@pytest.mark.usefixtures("small_chunks")
def test_logits_never_exist_whole(monkeypatch):
    rows = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *rest: rows.append(len(x)) or linear(x, *rest))
    hidden, weight, offset, target = tensors(100, 50, bias=True)
    linear_cross_entropy(hidden, weight, offset, target).nll_M.sum().backward()
    assert max(rows) == 32
    assert sum(rows) == 100  # and the gradient needed no second pass


@given(scale=st.floats(0.1, 300.0))
@settings(max_examples=20, deadline=None)
def test_large_logits_stay_finite(scale):
    hidden, weight, offset, target = tensors(9, 50, bias=True)
    scores = linear_cross_entropy(hidden * scale, weight, offset, target)
    assert bool(scores.nll_M.isfinite().all())
    assert bool((scores.nll_M >= 0).all())


def test_half_precision_under_autocast():
    hidden, weight, offset, target = tensors(40, 50, bias=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = linear_cross_entropy(hidden, weight, offset, target)
    assert scores.nll_M.dtype == torch.float32
    dense = F.cross_entropy(F.linear(hidden, weight, offset), target, reduction="none")
    torch.testing.assert_close(scores.nll_M, dense, rtol=0.05, atol=0.1)
    got = gradients(scores.nll_M.sum(), hidden, weight, offset)
    for mine, wanted in zip(got, gradients(dense.sum(), hidden, weight, offset), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, wanted, rtol=0.1, atol=0.3)


@pytest.mark.parametrize(("family", "head"), [("bert", "masked_lm"), ("electra", "masked_lm"), ("gpt2", "causal_lm")])
@pytest.mark.usefixtures("small_chunks")
def test_tied_weights_get_both_gradients(family, head):
    ours = network(family, head)
    theirs = stock(ours)
    ready = prepared(head)
    mean_loss(ours, ready).backward()
    logits_MV = stock_logits(theirs, ready, ours)
    F.cross_entropy(logits_MV, ready.target_M).backward()
    assert_same_gradients(ours.model, theirs)


def stock_logits(model, ready, ours):
    """Dense logits, one document after the other."""
    rows = [model(input_ids=ids[None]).logits[0] for ids in ready.ids_T.split(list(ready.lengths))]
    assert ours.model.get_output_embeddings().weight is ours.model.get_input_embeddings().weight
    return torch.cat(rows)[ready.read_M]
