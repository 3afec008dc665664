"""Heads at inner layers: what they read, what gathering leaves out, and what a folder keeps of them."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from instar.core.errors import ConfigError, DataError
from instar.model import Crossing, FromConfig, FromFolder, HeadKey, HeadSpec, Network, build_network
from tests.model.helpers import OPTIONS, SIZE, Words, network, prepared, stock

CLASSES = HeadSpec(task="classify", layer=1, num_outputs=3, pooling="first")
WORDS = HeadSpec(task="masked_lm", layer=1)


def with_heads(family: str, own: str, *specs: HeadSpec, layers: int = 3) -> Network:
    fields = SIZE | OPTIONS.get(family, {}) | {"num_layers": layers}
    labels = 3 if own == "classify" else None
    made = build_network(FromConfig(config=family, **fields), head=own, tokenizer=Words(), num_labels=labels, seed=1)
    made.add_heads(specs, seed=1)
    return made


def loaded(folder: Path, *specs: HeadSpec, **options: bool) -> Network:
    crossing = Crossing(source=FromFolder(path=str(folder)), **options)
    made = build_network(crossing, head="masked_lm", tokenizer=Words(), seed=9)
    made.add_heads(specs, seed=9)
    return made.eval()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "modernbert", "llama", "mistral"])
def test_gathering_with_inner_layers_changes_nothing(family: str) -> None:
    """The last layer leaves positions out while inner ones are read too: same logits, loss and gradients."""
    own = "causal_lm" if family in {"llama", "mistral"} else "masked_lm"
    ours = with_heads(family, own, HeadSpec(task=own, layer=1), HeadSpec(task=own, layer=0)).train()
    ready = replace(prepared(own), read_M=torch.tensor([1, 4, 20, 40]), target_M=torch.tensor([9, 8, 7, 6]))
    layers = (0, 1, -1)
    results = []
    for gathers in (True, False):
        assert ours.can_gather or not gathers
        ours.can_gather = gathers
        ours.zero_grad()
        output = ours(ready, layers)
        losses = [output.cross_entropy(ready.target_M, layer).nll_M.sum() for layer in layers]
        torch.stack(losses).sum().backward()
        assert all(len(output.logits_MV(layer)) == 4 for layer in layers)
        results.append((torch.stack(losses), [parameter.grad.clone() for parameter in ours.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-6, atol=1e-5)
    for got, wanted in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_the_last_layer_is_gathered_though_inner_ones_are_read() -> None:
    ours = with_heads("bert", "masked_lm", WORDS)
    seen = []
    for layer in ours.model.bert.encoder.layer:
        layer.output.register_forward_hook(lambda m, i, out: seen.append(out.shape[1]))
    ready = prepared("masked_lm")
    ours(ready, (1, -1))
    assert seen == [len(ready.ids_T), len(ready.ids_T), 7]


def test_a_head_reads_its_own_layer_at_its_own_positions() -> None:
    """A classifier at layer 1 of a masked model reads first tokens; packed rows equal the unmodified model's states."""
    ours = with_heads("bert", "masked_lm", CLASSES).eval()
    theirs, ready = stock(ours).eval(), prepared("masked_lm")
    with torch.no_grad():
        logits_DV = ours(ready, (1,), task="classify").logits_MV(1)
        for document, ids in enumerate(ready.ids_T.split(list(ready.lengths))):
            plain = theirs.bert(ids[None], output_hidden_states=True)
            wanted_V = ours.heads["classify_1"](plain.hidden_states[1][0, :1])[0]
            torch.testing.assert_close(logits_DV[document], wanted_V, rtol=1e-5, atol=1e-5)


def test_a_layer_without_a_head_is_refused() -> None:
    ours = with_heads("bert", "masked_lm", WORDS)
    ready = prepared("masked_lm")
    with pytest.raises(LookupError, match=r"layer 2 has no head of this task; heads are at the layers \[-1, 1\]"):
        ours(ready, (2, -1)).logits_MV(2)
    with pytest.raises(LookupError, match="no head for classify"):
        ours(ready, (1,), task="classify")


@pytest.mark.parametrize(
    ("own", "spec", "said"),
    [
        ("masked_lm", replace(CLASSES, layer=3), "wanted 0 to 2, or -1 for the last; got 3"),
        ("masked_lm", replace(CLASSES, pooling=None), "wanted num_outputs and pooling"),
        ("classify", WORDS, "shares its projection"),
    ],
)
def test_heads_that_cannot_be_are_refused(own: str, spec: HeadSpec, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_heads("bert", own, spec)


def test_a_folder_keeps_heads_and_is_the_main_model_to_transformers(tmp_path: Path) -> None:
    ours = with_heads("bert", "masked_lm", CLASSES, WORDS).eval()
    ready = prepared("masked_lm")
    ours.save(tmp_path)
    theirs, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]
    assert torch.equal(theirs.cls.predictions.transform.dense.weight, ours.model.cls.predictions.transform.dense.weight)
    again = loaded(tmp_path, CLASSES, WORDS)
    assert not again.loaded.fresh
    with torch.no_grad():
        for layers, task in (((1, -1), None), ((1,), "classify")):
            for layer in layers:
                got, wanted = (one(ready, layers, task).logits_MV(layer) for one in (again, ours))
                assert torch.equal(got, wanted)


def test_heads_nobody_asks_for_are_carried_along_frozen(tmp_path: Path) -> None:
    ours = with_heads("bert", "masked_lm", CLASSES, WORDS)
    ours.save(tmp_path / "first")
    again = loaded(tmp_path / "first", WORDS)
    carried = again.heads["classify_1"]
    assert not any(parameter.requires_grad for parameter in carried.parameters())
    assert not again.train().heads["classify_1"].training
    assert again.heads["masked_lm_1"].training
    again.save(tmp_path / "second")
    third = loaded(tmp_path / "second", CLASSES)
    for name, value in ours.heads.state_dict().items():
        assert torch.equal(third.heads.state_dict()[name], value)


def test_another_size_begins_fresh_and_is_reported(tmp_path: Path) -> None:
    with_heads("bert", "masked_lm", CLASSES).save(tmp_path)
    again = loaded(tmp_path, replace(CLASSES, num_outputs=5))
    assert "heads.classify_1.classifier.weight" in again.loaded.fresh
    assert "heads.classify_1.classifier.weight" in again.loaded.skipped
    assert list(again.specs) == [HeadKey("classify", 1)]
    new_task = loaded(tmp_path, keeps_head=False)
    assert list(new_task.specs) == [HeadKey("classify", 1)]  # another task's labels are what they were


@pytest.mark.parametrize("damage", ["heads.json", "heads.safetensors"])
def test_damaged_heads_are_refused(damage: str, tmp_path: Path) -> None:
    with_heads("bert", "masked_lm", CLASSES).save(tmp_path)
    (tmp_path / damage).write_bytes((tmp_path / damage).read_bytes()[:20])
    with pytest.raises(DataError, match=damage):
        loaded(tmp_path, CLASSES)


def test_fresh_heads_are_a_function_of_seed_and_name() -> None:
    one, two = with_heads("bert", "masked_lm", CLASSES), with_heads("bert", "masked_lm", WORDS, CLASSES)
    assert torch.equal(one.heads["classify_1"].dense.weight, two.heads["classify_1"].dense.weight)
    assert not torch.equal(two.heads["masked_lm_1"].dense.weight, two.heads["classify_1"].dense.weight)


def test_a_network_without_further_heads_has_no_file_of_them(tmp_path: Path) -> None:
    network("bert").save(tmp_path)
    assert not list(tmp_path.glob("heads.*"))
