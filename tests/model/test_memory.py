"""Weights lie in aligned memory of their own, whichever way they were loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from instar.model import FromFolder, build_network
from instar.model.memory import ALIGNMENT, own_memory
from tests.model.helpers import FAMILIES, Words, network


def shifted(tensor: Tensor, numbers: int = 1) -> Tensor:
    """The same values, behind an aligned address."""
    memory = torch.empty(numbers + tensor.numel())
    return memory[numbers:].view(tensor.shape).copy_(tensor)


def elsewhere(module: nn.Module) -> list[str]:
    """Names of parameters and buffers that are misaligned, or in memory that is not PyTorch's."""
    return [
        name
        for name, tensor in (*module.named_parameters(), *module.named_buffers())
        if tensor.data_ptr() % ALIGNMENT or not tensor.untyped_storage().resizable()
    ]


@pytest.mark.parametrize(("family", "head"), [*FAMILIES, ("bert", "classify")])
def test_a_network_from_a_folder(tmp_path: Path, family: str, head: str) -> None:
    network(family, head).save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors").values()
    assert any(not tensor.untyped_storage().resizable() for tensor in stored)
    labels = 3 if head == "classify" else None
    source = FromFolder.model_validate({"from": str(tmp_path)})
    again = build_network(source, head=head, tokenizer=Words(), num_labels=labels, seed=0)
    assert elsewhere(again) == []


def test_the_file_may_go(tmp_path: Path) -> None:
    """A mapped file that is cut short ends the process that reads it."""
    network("bert").save(tmp_path)
    again = build_network(
        FromFolder.model_validate({"from": str(tmp_path)}), head="masked_lm", tokenizer=Words(), seed=0
    )
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert all(bool(parameter.isfinite().all()) for parameter in again.parameters())


def test_ties_and_references_stay() -> None:
    words, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    words.weight.data = shifted(words.weight)
    head.weight = words.weight
    beside = nn.Linear(3, 5, bias=False)
    beside.weight.data = words.weight.data
    model = nn.ModuleList([words, head, beside])
    held, values = head.weight, head.weight.detach().clone()
    assert own_memory(model) == 2  # two parameters of one memory
    assert elsewhere(model) == []
    assert held is words.weight is head.weight
    assert beside.weight.data_ptr() == held.data_ptr()
    assert torch.equal(held, values)
    assert own_memory(model) == 0


def test_buffers_and_strides() -> None:
    model = nn.BatchNorm1d(3)
    model.running_mean = shifted(torch.arange(3.0))  # type: ignore[assignment]
    model.weight.data = shifted(torch.arange(9.0).view(3, 3)).T
    assert own_memory(model) == 2
    assert elsewhere(model) == []
    assert model.weight.stride() == (1, 3)
    assert model.running_mean.tolist() == [0.0, 1.0, 2.0]


def test_memory_that_is_divided_or_shared_on_purpose_stays() -> None:
    flat = torch.arange(12.0)
    model = nn.ParameterList([nn.Parameter(flat[1:5]), nn.Parameter(flat[5:12])])
    model.append(torch.arange(8.0).share_memory_()[1:])
    assert own_memory(model) == 0
    flat.zero_()
    assert torch.equal(model[0].detach(), flat[1:5])


def test_what_has_no_memory_is_left_alone() -> None:
    assert (
        own_memory(
            nn.ModuleList([nn.LazyLinear(3), nn.Linear(3, 3, device="meta"), nn.ParameterList([torch.empty(0)])])
        )
        == 0
    )


def test_stock_models_are_views_into_a_file(tmp_path: Path) -> None:
    """What the Trainer is given: if this fails, Transformers loads in another way, and the tests above show nothing."""
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertForSequenceClassification(BertConfig(vocab_size=9, **size)).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    assert elsewhere(model)
    own_memory(model)
    assert elsewhere(model) == []
