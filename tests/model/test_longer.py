"""Saved models taken to longer documents: where positions are computed it is a number, where they are learned not."""

import json

import pytest
import torch

from instar.core.errors import ConfigError, DataError
from instar.model import FromFolder, build_network
from tests.model.helpers import MASKED, Words, network, prepared

OLD, NEW = 32, 80
OPTIONS = {"gptj": {"rotary_dim": 8}}


def head_of(family):
    return "masked_lm" if family in MASKED else "causal_lm"


def longer(family, path, max_length=NEW, **options):
    options = OPTIONS.get(family, {}) | options
    first = network(family, head_of(family), **options).eval()
    first.save(path)
    config = FromFolder.model_validate({"from": str(path), "max_length": max_length})
    return first, build_network(config, head=head_of(family), tokenizer=Words(), seed=1)


@pytest.mark.parametrize("family", ["modernbert", "llama", "qwen2", "mistral", "gpt_neox", "gptj"])
def test_rotary_models_take_longer_documents_and_read_short_ones_as_before(tmp_path, family):
    first, second = longer(family, tmp_path / "short")
    assert (first.max_length, second.max_length) == (OLD, NEW)
    short, long = (prepared(head_of(family), lengths) for lengths in ((OLD, 7, 5), (NEW, NEW - 1, 3)))
    with torch.no_grad():
        torch.testing.assert_close(second(short).logits_MV(), first(short).logits_MV(), rtol=0, atol=0)
        assert second(long).logits_MV().isfinite().all()
    second.save(tmp_path / "long")
    again = FromFolder.model_validate({"from": str(tmp_path / "long")})
    assert build_network(again, head=head_of(family), tokenizer=Words(), seed=1).max_length == NEW
    assert torch.equal(
        torch.cat([value.flatten() for value in first.parameters()]),
        torch.cat([value.flatten() for value in second.parameters()]),
    )


@pytest.mark.parametrize("max_length", [NEW, OLD - 1])
@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "distilbert", "electra"])
def test_learned_positions_are_refused_and_their_table_is_named(tmp_path, family, max_length):
    with pytest.raises(ConfigError, match=r"model\.max_length: .*(position|wpe)") as refused:
        longer(family, tmp_path, max_length)
    assert "learned vector for each position" in str(refused.value)
    assert f"at most {OLD}" in str(refused.value)


@pytest.mark.parametrize("rope_type", ["yarn", "dynamic"])
def test_scaling_that_follows_the_limit_is_refused(tmp_path, rope_type):
    scaling = {"rope_type": rope_type, "rope_theta": 10000.0, "factor": 2.0}
    if rope_type == "yarn":  # without a factor of its own, the limit divided by the original one
        scaling |= {"original_max_position_embeddings": 16, "factor": None}
    with pytest.raises(ConfigError, match=r"model\.max_length: expected 32"):
        longer("llama", tmp_path, rope_parameters=scaling)


def test_the_limit_that_a_model_has_already_is_taken_everywhere(tmp_path):
    _, second = longer("bert", tmp_path, OLD)
    assert second.max_length == OLD


@pytest.mark.parametrize("family", ["gptj", "gpt2"])
def test_a_configuration_that_asks_for_huge_tables_is_refused_before_they_are_made(tmp_path, family):
    network(family, "causal_lm", **OPTIONS.get(family, {})).save(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_positions": 10**10}))
    with pytest.raises(DataError, match=r"computed tables of|of another architecture or size"):
        build_network(FromFolder.model_validate({"from": str(tmp_path)}), head="causal_lm", tokenizer=Words(), seed=1)
