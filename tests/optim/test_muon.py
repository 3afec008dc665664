"""Muon beside AdamW: the step, the state, and a step that is not finite."""

import pytest
import torch
from torch import nn

from instar.optim import AdamW, Muon
from instar.optim.orthogonal import MuonAdamW, orthogonalize
from instar.trainer import snapshot

# B matrices, M rows, N columns


@pytest.mark.parametrize("shape", [(8, 8), (16, 4), (4, 16)])
def test_the_step_is_that_of_torch_but_for_its_rounding(shape: tuple[int, int]) -> None:
    """PyTorch's iterates in bfloat16 on a CPU too."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for _ in range(3)]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    mine = MuonAdamW([{"params": ours, "orthogonal": True, "weight_decay": 0.1}], lr=0.05, momentum=0.9)
    peer = torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(shape)
            b.grad = a.grad.clone()
        mine.step()
        peer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=3e-3)
        assert torch.equal(mine.state[a]["momentum_buffer"], peer.state[b]["momentum_buffer"])


def test_singular_values_come_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    turned_BMN = orthogonalize(torch.randn(5, 12, 7, generator=generator))
    values = torch.linalg.svdvals(turned_BMN)
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert torch.equal(orthogonalize(torch.zeros(1, 3, 3)), torch.zeros(1, 3, 3))


def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    inside = {"dense": nn.Linear(6, 6), "norm": nn.LayerNorm(6)}
    return nn.ModuleDict({"embeddings": nn.Embedding(5, 6), "layer": nn.ModuleDict(inside), "lm_head": nn.Linear(6, 5)})


def set_gradients(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_hidden_matrices_are_turned_and_the_rest_is_adamw() -> None:
    network, other = model(), model()
    optimizer = Muon(lr=0.01, weight_decay=0.1).build(network.named_parameters())
    groups = {
        name: (group["orthogonal"], group["weight_decay"])
        for group in optimizer.param_groups
        for name in group["names"]
    }
    assert {name for name, (is_turned, _) in groups.items() if is_turned} == {"layer.dense.weight"}
    assert {name for name, (_, decay) in groups.items() if decay} == {
        "layer.dense.weight",
        "embeddings.weight",
        "lm_head.weight",
    }
    reference = AdamW(lr=0.01, weight_decay=0.1).build(other.named_parameters())
    for step in range(4):
        for each in (network, other):
            set_gradients(each, step)
        optimizer.step()
        reference.step()
    for (name, mine), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs) is (name != "layer.dense.weight")


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.word_embeddings.weight",
        "transformer.wte.weight",
        "transformer.wpe.weight",
        "lm_head.weight",
        "classifier.weight",
        "classifier.out_proj.weight",
        "score.weight",
        "cls.predictions.decoder.weight",
        "model.embed_tokens.weight",
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "vocab_projector.weight",
    ],
)
def test_tables_and_heads_are_no_hidden_matrices(name: str) -> None:
    groups = Muon().build([(name, nn.Parameter(torch.zeros(3, 3)))]).param_groups
    assert [group["orthogonal"] for group in groups] == [False]


@pytest.mark.parametrize(
    "name", ["bert.encoder.layer.0.attention.output.dense.weight", "model.decoder.layers.0.fc1.weight"]
)
def test_matrices_within_are(name: str) -> None:
    groups = Muon().build([(name, nn.Parameter(torch.zeros(3, 3)))]).param_groups
    assert [group["orthogonal"] for group in groups] == [True]


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    network = model()
    optimizer = Muon(lr=0.01).build(network.named_parameters())
    for step, is_bad in enumerate((0.0, 1.0, 0.0)):
        set_gradients(network, step)
        if is_bad:
            for parameter in network.parameters():
                parameter.grad.fill_(float("nan"))
        before = [parameter.detach().clone() for parameter in network.parameters()]
        state = [value.clone() for kept in optimizer.state.values() for value in kept.values()]
        optimizer.found_inf = torch.tensor(is_bad)
        optimizer.step()
        same = [torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
        assert same == [bool(is_bad)] * len(before)
        if is_bad:
            after = [value for kept in optimizer.state.values() for value in kept.values()]
            assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


def test_a_loss_scaler_may_leave_unscaling_to_it() -> None:
    results = []
    for scale in (None, torch.tensor(8.0)):
        network = model()
        optimizer = Muon(lr=0.01).build(network.named_parameters())
        set_gradients(network, 0)
        if scale is not None:
            for parameter in network.parameters():
                parameter.grad.mul_(scale)
            optimizer.grad_scale, optimizer.found_inf = scale, torch.tensor(0.0)
        optimizer.step()
        results.append([parameter.detach() for parameter in network.parameters()])
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*results, strict=True))


def test_a_run_goes_on_from_what_a_checkpoint_keeps_of_it(tmp_path: object) -> None:
    network, other = model(), model()
    first = Muon(lr=0.01).build(network.named_parameters())
    second = Muon(lr=0.01).build(other.named_parameters())
    for step in range(3):
        set_gradients(network, step)
        first.step()
    kept = {
        f"{name}::{kind}": value.clone()
        for group in first.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for kind, value in first.state[parameter].items()
    }
    other.load_state_dict(network.state_dict())
    snapshot._load_optimizer(second, kept, tmp_path)
    for each, optimizer in ((network, first), (other, second)):
        set_gradients(each, 3)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))


def test_only_matrices_can_be_turned() -> None:
    with pytest.raises(ValueError, match=r"wanted matrices in an orthogonal group; got the shape \[3\]"):
        MuonAdamW([{"params": [nn.Parameter(torch.zeros(3))], "orthogonal": True}], lr=0.1)
