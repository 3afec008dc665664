"""How new networks start: the spread of each group of weights, and a first loss of chance."""

import math

import pytest
import torch

from tests.model.helpers import VOCAB, Words, batch, network

WIDE = {"num_layers": 4, "hidden_size": 128, "num_heads": 4, "intermediate_size": 512}


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2"])
def test_the_spread_of_each_group_of_a_decoder(family: str) -> None:
    """N(0, 0.02) for tables and projections; where a branch ends, less by the root of twice the layers."""
    built = network(family, "causal_lm", **WIDE)
    ends = ("attn.c_proj", "mlp.c_proj", "o_proj", "down_proj")
    seen = set()
    for name, value in built.model.named_parameters():
        module = name.rpartition(".")[0]
        if value.ndim >= 2:
            wanted = 0.02 / math.sqrt(8) if module.endswith(ends) else 0.02
            inner = "table" if "emb" in name or "wt" in name else "projection"
            seen.add("branch end" if module.endswith(ends) else inner)
            rows = value[1:] if "embed_tokens" in name else value  # the padding row is zero
            assert float(rows.detach().std()) == pytest.approx(wanted, rel=0.06), name
            assert abs(float(rows.detach().mean())) < 4 * wanted / math.sqrt(rows.numel()), name
        elif name.endswith("bias"):
            assert not value.any(), name
        else:
            assert torch.equal(value, torch.ones_like(value)), name
    assert seen == {"branch end", "table", "projection"}


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_first_loss_is_that_of_chance(family: str) -> None:
    built = network(family, "causal_lm", **WIDE).eval()
    given = batch((31, 30, 29))
    ends = {end - 1 for end in given.boundaries[1:]}
    read_M = torch.tensor([place for place in range(given.num_tokens) if place not in ends])
    with torch.no_grad():
        nll_M = built(given.reading(read_M)).cross_entropy(given.ids_T[read_M + 1]).nll_M
    assert float(nll_M.mean()) == pytest.approx(math.log(VOCAB), rel=0.02)


def test_a_head_reads_no_id_as_padding() -> None:
    """Token 0 of a GPT is a token like any other: it has a row, it is read, and it is learnt."""
    words = Words(pad_id=None)
    built = network("gpt2", "causal_lm")
    assert words.pad_id is None
    assert built.model.get_input_embeddings().padding_idx is None
    given = batch((5,))
    given.ids_T[2] = 0
    loss = built(given.reading(torch.tensor([1, 2]))).cross_entropy(torch.tensor([0, 7])).nll_M.sum()
    loss.backward()
    assert built.model.get_input_embeddings().weight.grad[0].abs().sum() > 0
