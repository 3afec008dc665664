"""Packed rows say what padded rows of the unmodified model say: loss, gradients, hidden states."""

from dataclasses import replace

import pytest
import torch

from tests.model.helpers import (
    CAUSAL,
    FAMILIES,
    MASKED,
    assert_same_gradients,
    batch,
    mean_loss,
    network,
    padded,
    prepared,
    stock,
)


@pytest.fixture(params=["plain", "onednn"])
def matmul(request):
    """Both libraries for float32 products; on this machine "bf16" may or may not be exact, so it is asked."""
    from instar.model.speed import probe_matmul, use_plain_cpu

    if request.param == "onednn":
        if not (torch.backends.mkldnn.is_available() and probe_matmul().is_exact):
            pytest.skip("oneDNN's float32 products are not exact on this machine")
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    yield request.param
    use_plain_cpu()


@pytest.mark.parametrize(("family", "head"), [*FAMILIES, *((f, "classify") for f in [*MASKED, "gpt2", "llama"])])
@pytest.mark.usefixtures("matmul")
def test_packed_equals_the_padded_stock_model(family, head):
    ours = network(family, head)
    theirs = stock(ours)
    ready = prepared(head)
    loss = mean_loss(ours, ready)
    wanted = theirs(**padded(ready, head)).loss
    loss.backward()
    wanted.backward()
    assert ours.is_packed
    assert abs(loss.item() - wanted.item()) <= 1e-6
    assert_same_gradients(ours.model, theirs)


@pytest.mark.parametrize("family", [*MASKED, *CAUSAL])
def test_long_documents_and_equal_ones(family):
    """Lengths that make groups without padding, groups of one, and documents of one token."""
    head = "masked_lm" if family in MASKED else "causal_lm"
    ours = network(family, head, max_length=256)
    ready = prepared(head, (200, 6, 6, 6, 1, 130))
    theirs = stock(ours)
    loss, wanted = mean_loss(ours, ready), theirs(**padded(ready, head)).loss
    loss.backward()
    wanted.backward()
    assert abs(loss.item() - wanted.item()) <= 1e-6
    assert_same_gradients(ours.model, theirs)


@pytest.mark.parametrize(("family", "head"), FAMILIES)
def test_documents_do_not_see_each_other(family, head):
    ours = network(family, head).eval()
    one = batch()
    changed_T = one.ids_T.clone()
    first, last = one.boundaries[1], one.boundaries[2]
    changed_T[first:last] = (changed_T[first:last] - 4) % 90 + 5
    with torch.no_grad():
        before = ours(one).hidden_MH()
        after = ours(replace(one, ids_T=changed_T)).hidden_MH()
    inside = torch.zeros(one.num_tokens, dtype=torch.bool)
    inside[first:last] = True
    assert torch.equal(before[~inside], after[~inside])
    assert not torch.allclose(before[inside], after[inside])


@pytest.mark.parametrize(("family", "head"), FAMILIES)
def test_order_of_documents_does_not_matter(family, head):
    ours = network(family, head).eval()
    one = batch()
    order = [2, 0, 3, 1]
    pieces = one.ids_T.split(list(one.lengths))
    other = replace(one, ids_T=torch.cat([pieces[n] for n in order]), lengths=tuple(one.lengths[n] for n in order))
    with torch.no_grad():
        first = ours(one).hidden_MH().split(list(one.lengths))
        second = ours(other).hidden_MH().split(list(other.lengths))
    for place, number in enumerate(order):
        torch.testing.assert_close(second[place], first[number], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "modernbert", "llama", "qwen2", "mistral"]
)
def test_gathering_the_last_layer_changes_nothing(family):
    head = "masked_lm" if family in MASKED else "causal_lm"
    ours = network(family, head)
    ready = replace(prepared(head), read_M=torch.tensor([1, 4, 20, 40]), target_M=torch.tensor([9, 8, 7, 6]))
    results = []
    for gathers in (True, False):
        assert ours.can_gather or not gathers
        ours.can_gather = gathers
        ours.zero_grad()
        loss = mean_loss(ours, ready)
        loss.backward()
        results.append((loss, [p.grad.clone() for p in ours.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-6, atol=1e-6)
    for got, wanted in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_gathering_really_leaves_places_out():
    ours = network("bert")
    seen = []
    ours.model.bert.encoder.layer[-1].output.register_forward_hook(lambda m, i, out: seen.append(out.shape[1]))
    mean_loss(ours, prepared("masked_lm"))
    assert seen == [7]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_inner_layers_are_those_of_transformers(family):
    head = "masked_lm" if family in MASKED else "causal_lm"
    ours = network(family, head).eval()
    ready = prepared(head)
    sizes = padded(ready, head)
    with torch.no_grad():
        answer = ours(ready, layers=(0, 1, -1))
        states = stock(ours)(**sizes, output_hidden_states=True).hidden_states
    for layer in (0, 1, -1):
        wanted_TH = states[layer][sizes["attention_mask"].bool()]
        torch.testing.assert_close(answer.hidden_MH(layer), wanted_TH[ready.read_M], rtol=1e-5, atol=1e-5)


def test_a_copy_has_weights_of_its_own():
    """Averages of weights are copies; none of their layers may still belong to the first."""
    import copy

    ours = network("bert").eval()
    ready = prepared("masked_lm")
    other = copy.deepcopy(ours)
    before = mean_loss(other, ready).item()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.5)
    assert mean_loss(other, ready).item() == before


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_activation_checkpointing_gives_the_same_gradients(family):
    head = "masked_lm" if family in MASKED else "causal_lm"
    ours = network(family, head, dropout=0.1)
    ready = prepared(head)
    results = []
    for checkpointed in (False, True):
        if checkpointed:
            ours.checkpoint_activations()
        ours.zero_grad()
        torch.manual_seed(5)
        loss = mean_loss(ours, ready)
        loss.backward()
        results.append([loss.detach(), *(p.grad.clone() for p in ours.parameters())])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("family", "head"), [*FAMILIES, ("bert", "classify")])
def test_autocast_runs_and_stays_near(family, head):
    ours = network(family, head)
    ready = prepared(head)
    wanted = mean_loss(ours, ready)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = mean_loss(ours, ready)
    loss.backward()
    assert loss.item() == pytest.approx(wanted.item(), rel=0.01)
    assert all(
        p.grad is not None and bool(p.grad.isfinite().all()) for n, p in ours.named_parameters() if "pooler" not in n
    )


def test_whole_model_in_double_precision():
    ours = network("bert").double()
    mean_loss(ours, prepared("masked_lm")).backward()
    assert all(p.grad is None or p.grad.dtype == torch.float64 for p in ours.parameters())
