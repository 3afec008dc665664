"""Networks from a section of a run file, from folders, and back to folders."""

import json
import logging
import math
from dataclasses import replace

import pytest
import torch
import transformers
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from instar.core.errors import ConfigError, DataError, InputMissingError
from instar.model import FromConfig, FromFolder, ModelConfig, build_network, packing
from tests.model.helpers import (
    CAUSAL,
    FAMILIES,
    LENGTHS,
    MASKED,
    VOCAB,
    Words,
    batch,
    mean_loss,
    network,
    padded,
    prepared,
)

AUTO = {
    "masked_lm": transformers.AutoModelForMaskedLM,
    "causal_lm": transformers.AutoModelForCausalLM,
    "classify": transformers.AutoModelForSequenceClassification,
}


def folder_of(built, path):
    built.save(path)
    return FromFolder.model_validate({"from": str(path)})


@pytest.mark.parametrize(("family", "head"), [*FAMILIES, ("bert", "classify"), ("llama", "classify")])
def test_what_is_saved_is_what_transformers_loads(tmp_path, family, head):
    ours = network(family, head).eval()
    ours.save(tmp_path)
    theirs = AUTO[head].from_pretrained(tmp_path, use_safetensors=True).eval()
    ready = prepared(head)
    inputs = padded(ready, head)
    with torch.no_grad():
        logits = theirs(**{name: inputs[name] for name in ("input_ids", "attention_mask")}).logits
        wanted = logits if head == "classify" else logits[inputs["attention_mask"].bool()][ready.read_M]
        torch.testing.assert_close(ours(ready).logits_MV(), wanted, rtol=1e-5, atol=1e-5)
    assert "instar" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_folder_gives_the_same_network_back(tmp_path, family):
    head = "masked_lm" if family in MASKED else "causal_lm"
    ours = network(family, head)
    again = build_network(folder_of(ours, tmp_path), head=head, tokenizer=Words(), seed=99)
    assert again.loaded.fresh == again.loaded.skipped == ()
    for (name, got), (_, wanted) in zip(again.named_parameters(), ours.named_parameters(), strict=True):
        assert torch.equal(got, wanted), name


def test_another_head_keeps_the_body_and_names_the_rest(tmp_path):
    ours = network("bert")
    config = folder_of(ours, tmp_path)
    fresh = build_network(config, head="classify", tokenizer=Words(), num_labels=5, seed=3)
    assert set(fresh.loaded.fresh) == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"
    }  # fmt: skip
    assert all(name.startswith("cls.") for name in fresh.loaded.skipped)
    assert torch.equal(
        fresh.model.bert.embeddings.word_embeddings.weight, ours.model.bert.embeddings.word_embeddings.weight
    )
    twin = build_network(config, head="classify", tokenizer=Words(), num_labels=5, seed=3)
    assert torch.equal(fresh.model.classifier.weight, twin.model.classifier.weight)
    assert fresh.model.classifier.weight.std() < 0.1


def test_other_labels_make_a_new_classifier(tmp_path):
    config = folder_of(network("bert", "classify"), tmp_path)
    fresh = build_network(config, head="classify", tokenizer=Words(), num_labels=7, seed=3)
    assert fresh.model.classifier.weight.shape == (7, 32)
    assert set(fresh.loaded.fresh) == {"classifier.weight", "classifier.bias"}


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputMissingError, match="config"):
        build_network(
            FromFolder.model_validate({"from": str(tmp_path / "no")}), head="masked_lm", tokenizer=Words(), seed=1
        )


def test_a_folder_of_pickles_is_refused(tmp_path):
    config = folder_of(network("bert"), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputMissingError, match="safetensors"):
        build_network(config, head="masked_lm", tokenizer=Words(), seed=1)


def test_a_tokenizer_too_large(tmp_path):
    config = folder_of(network("bert"), tmp_path)
    with pytest.raises(DataError, match=f"knows {VOCAB} tokens and the tokenizer makes 500"):
        build_network(config, head="masked_lm", tokenizer=Words(vocab_size=500), seed=1)


@pytest.mark.parametrize("damage", ["cut", "config", "hole", "unknown"])
def test_damaged_folders(tmp_path, damage):
    config = folder_of(network("bert"), tmp_path)
    weights, settings = tmp_path / "model.safetensors", tmp_path / "config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "config":
        settings.write_text("{")
    elif damage == "unknown":
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_type": "none_such"}))
    else:
        tensors = load_file(weights)
        tensors.pop("bert.encoder.layer.0.output.dense.weight")
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(DataError, match=str(tmp_path)):
        build_network(config, head="masked_lm", tokenizer=Words(), seed=1)


def test_code_and_private_keys_of_a_folder_are_ignored(tmp_path):
    config = folder_of(network("bert"), tmp_path)
    settings = tmp_path / "config.json"
    evil = {"auto_map": {"AutoModelForMaskedLM": "evil.Model"}, "_attn_implementation_internal": "evil/kernel", "_x": 1}
    settings.write_text(json.dumps(json.loads(settings.read_text()) | evil))
    (tmp_path / "evil.py").write_text("raise SystemExit(9)")
    built = build_network(config, head="masked_lm", tokenizer=Words(), seed=1)
    assert type(built.model).__module__.startswith("transformers.")
    assert built.is_packed


@pytest.mark.parametrize(("family", "head"), FAMILIES)
def test_untrained_loss_is_that_of_guessing(family, head):
    ready = prepared(head, LENGTHS * 4)
    if head == "masked_lm":
        targets_M = torch.randint(5, VOCAB, (ready.num_tokens,), generator=torch.Generator().manual_seed(4))
        ready = replace(ready, read_M=torch.arange(ready.num_tokens), target_M=targets_M)
    loss = mean_loss(network(family, head, hidden_size=64).eval(), ready).item()
    assert loss == pytest.approx(math.log(VOCAB), rel=0.02)


@pytest.mark.parametrize("family", [*MASKED, *CAUSAL])
def test_fresh_weights(family):
    head = "masked_lm" if family in MASKED else "causal_lm"
    one, twin, other = (network(family, head, seed=seed) for seed in (1, 1, 2))
    state = torch.get_rng_state()
    network(family, head)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, first), (_, second), (_, third) in zip(*(n.named_parameters() for n in (one, twin, other)), strict=True):
        assert torch.equal(first, second), name
        if first.ndim == 2:
            assert not torch.equal(first, third), name
            branch = any(part in name for part in ("c_proj", "o_proj", "down_proj", ".Wo."))
            wanted = 0.02 / 2 if branch else 0.02
            assert first.std().item() == pytest.approx(wanted, rel=0.2), name
        elif name.endswith("bias"):
            assert not first.any(), name
        else:
            assert bool((first == 1).all()), name


def test_weights_do_not_depend_on_what_else_is_there():
    small, large = network("bert", num_layers=1), network("bert", num_layers=3)
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.equal(small.model.state_dict()[name], large.model.state_dict()[name])


@pytest.mark.parametrize("family", [*MASKED, *CAUSAL])
def test_few_names_reach_every_family(family):
    head = "masked_lm" if family in MASKED else "causal_lm"
    built = network(family, head, max_length=24, dropout=0.3)
    config = built.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (2, 32, 2)
    assert built.max_length == 24
    rates = [m.p for m in built.modules() if isinstance(m, torch.nn.Dropout)]
    assert set(rates) <= {0.3}
    longest = batch((24,))
    with torch.no_grad():
        assert built.eval()(longest).hidden_MH().shape == (24, 32)


def test_defaults():
    built = build_network(FromConfig(config="bert"), head="masked_lm", tokenizer=Words(), seed=1)
    config = built.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (4, 256, 4)
    assert (config.intermediate_size, built.max_length) == (1024, 512)
    assert built.num_parameters == sum(p.numel() for p in built.model.parameters())


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"config": "brt"}, "did you mean 'bert'"),
        ({"config": "bert", "num_layer": 2}, "did you mean 'num_layers'"),
        ({"config": "bert", "hiden_dropout_prob": 0.1}, "did you mean 'hidden_dropout_prob'"),
        ({"config": "bert", "vocab_size": 5}, "follows from"),
        ({"config": "bert", "hidden_size": 30, "num_heads": 4}, "divisor of hidden_size 30"),
        ({"from": "x", "num_layers": 2}, "num_layers"),
        ({"config": "bert", "dropout": 1.5}, "dropout"),
    ],
)
def test_faulty_sections(section, said):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(ModelConfig).validate_python(section)
    assert said in str(caught.value)


def test_all_faults_at_once():
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(ModelConfig).validate_python({"config": "bert", "num_layer": 2, "hiden_act": "gelu"})
    assert "num_layer:" in str(caught.value)
    assert "hiden_act:" in str(caught.value)


def test_sections_choose_their_kind_and_come_back():
    adapter = TypeAdapter(ModelConfig)
    assert isinstance(adapter.validate_python({"from": "runs/x"}), FromFolder)
    config = adapter.validate_python({"config": "gpt2", "num_layers": 3, "activation_function": "relu"})
    assert config.fields == {"activation_function": "relu"}
    assert adapter.validate_python(adapter.dump_python(config, by_alias=True)) == config
    assert "oneOf" in adapter.json_schema()


def test_values_the_architecture_refuses():
    config = FromConfig(config="bert", hidden_act=5)
    with pytest.raises(ConfigError, match="bert refuses"):
        build_network(config, head="masked_lm", tokenizer=Words(), seed=1)


def test_a_head_the_architecture_has_not():
    with pytest.raises(ConfigError, match="gpt2 has no masked_lm head, only causal_lm, classify"):
        network("gpt2", "masked_lm")


@pytest.mark.parametrize("pooling", ["first", "mean", "last"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_pooling(family, pooling):
    ours = network(family, "classify", pooling=pooling).eval()
    one = batch()
    with torch.no_grad():
        answer = ours(one)
        states = ours.model.base_model(input_ids=one.ids_T[:9][None], **packed_alone(one, 9)).last_hidden_state[0]
    wanted = {"first": states[0], "mean": states.mean(0), "last": states[-1]}[pooling]
    torch.testing.assert_close(answer.hidden_MH()[0], wanted, rtol=1e-5, atol=1e-5)
    assert answer.logits_MV().shape == (len(one), 3)


def packed_alone(one, length):
    from instar.model.attention import Pack

    return {"pack": Pack((length,), one.ids_T.device), "position_ids": torch.arange(length)[None]}


@pytest.mark.parametrize(("family", "head"), [("mpnet", "masked_lm"), ("opt", "causal_lm"), ("deberta", "masked_lm")])
def test_other_architectures_run_padded_with_one_notice(family, head, caplog):
    packing.notice.cache_clear()
    with caplog.at_level(logging.WARNING, "instar"):
        ours = network(family, head)
        network(family, head)
    assert len([record for record in caplog.records if family in record.message]) == 1
    assert not ours.is_packed
    ready = prepared(head)
    loss = mean_loss(ours, ready)
    wanted = ours.model(**padded(ready, head)).loss
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours(ready).logits_MV().shape, (ready.num_targets, VOCAB))


def test_an_unknown_family_that_packs_is_found_out(monkeypatch):
    wanted = mean_loss(network("bert"), prepared("masked_lm"))
    monkeypatch.setattr(packing, "_VERIFIED", frozenset())
    ours = network("bert")
    assert ours.is_packed
    assert ours.training
    torch.testing.assert_close(mean_loss(ours, prepared("masked_lm")), wanted)


def test_an_unknown_family_that_leaks_is_found_out(monkeypatch):
    """Attention that forgets the documents must not be used."""
    monkeypatch.setattr(packing, "_VERIFIED", frozenset())
    real = packing.attention.Pack
    monkeypatch.setattr(
        packing.attention, "Pack", lambda lengths, device, read_M: real((sum(lengths),), device, read_M)
    )
    ours = network("bert")
    assert not ours.is_packed
    ready = prepared("masked_lm")
    torch.testing.assert_close(
        mean_loss(ours, ready), ours.model(**padded(ready, "masked_lm")).loss, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("family", "words"),
    [("t5", "t5 has a decoder beside its encoder"), ("reformer", "reformer refuses these values: .*axial")],
)
def test_architectures_that_cannot_be_made_are_faults_of_the_run_file(family, words):
    with pytest.raises(ConfigError, match=words):
        build_network(
            FromConfig(config=family, hidden_size=16), head="classify", tokenizer=Words(), num_labels=2, seed=1
        )
