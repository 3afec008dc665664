"""A model over another vocabulary: rows go by the token, and the rest of the model stays what it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from instar.core.errors import DataError
from instar.model import Crossing, FromFolder, build_network
from tests.model.helpers import FAMILIES, VOCAB, Words, network

NEW = 41


def rows(seed: int = 0) -> np.ndarray:
    """A few tokens of the old vocabulary at other numbers, and some that it does not have."""
    draw = np.random.default_rng(seed).permutation(np.arange(5, VOCAB))[:NEW]
    draw[::7] = -1
    draw[:5] = np.arange(5)  # the special tokens stay
    return draw.astype(np.int64)


@pytest.mark.parametrize(("family", "head"), FAMILIES)
def test_rows_are_kept_by_token(family: str, head: str, tmp_path: Path) -> None:
    before = network(family, head, seed=4)
    before.save(tmp_path)
    rows_V = rows()
    crossing = Crossing(source=FromFolder(path=str(tmp_path)), rows_V=rows_V)
    after = build_network(crossing, head=head, tokenizer=Words(vocab_size=NEW), seed=9)
    table, old = after.model.get_input_embeddings().weight, before.model.get_input_embeddings().weight
    kept = rows_V >= 0
    assert table.shape[0] == NEW
    assert torch.equal(table[kept], old[rows_V[kept]])
    spread = float(table[~torch.from_numpy(kept)].detach().std())
    assert spread == pytest.approx(after.model.config.initializer_range, rel=0.35)
    output, old_output = after.model.get_output_embeddings(), before.model.get_output_embeddings()
    assert torch.equal(output.weight[kept], old_output.weight[rows_V[kept]])
    if output.bias is not None:
        assert torch.equal(output.bias[kept], old_output.bias[rows_V[kept]])
    mine = dict(after.model.named_parameters())
    for name, value in before.model.named_parameters():
        if value.shape[0] != VOCAB:
            assert torch.equal(mine[name], value), name
    report = after.loaded
    assert report.resized
    assert all(report.shapes[name][0][0] == VOCAB and report.shapes[name][1][0] == NEW for name in report.resized)
    again = tmp_path / "again"
    after.save(again)
    reloaded = build_network(FromFolder(path=str(again)), head=head, tokenizer=Words(vocab_size=NEW), seed=1)
    assert not reloaded.loaded.fresh
    assert torch.equal(reloaded.model.get_output_embeddings().weight, output.weight)


def test_positions_that_are_counted_from_the_padding_token_must_not_move(tmp_path: Path) -> None:
    network("roberta", seed=4).save(tmp_path)
    crossing = Crossing(source=FromFolder(path=str(tmp_path)), rows_V=rows())
    with pytest.raises(DataError, match="counts positions from the padding token, which is 0 in the model and 3"):
        build_network(crossing, head="masked_lm", tokenizer=Words(vocab_size=NEW, pad_id=3), seed=9)


@pytest.mark.parametrize(
    ("family", "head"), [("bert", "masked_lm"), ("modernbert", "masked_lm"), ("llama", "causal_lm")]
)
def test_a_head_that_does_not_go_on_is_made_anew(family: str, head: str, tmp_path: Path) -> None:
    before = network(family, head, seed=4)
    before.save(tmp_path)
    crossing = Crossing(source=FromFolder(path=str(tmp_path)), keeps_head=False)
    after = build_network(crossing, head=head, tokenizer=Words(), seed=9)
    old = dict(before.model.named_parameters())
    body = f"{after.model.base_model_prefix}."
    for name, value in after.model.named_parameters():
        if name.startswith(body):
            assert torch.equal(value, old[name]), name
        else:
            assert name in after.loaded.fresh
            assert name in after.loaded.skipped
            assert after.loaded.shapes[name] == (tuple(value.shape), tuple(value.shape))
            assert value.ndim < 2 or not torch.equal(value, old[name]), name


def damaged(folder: Path, **changes: object) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.0.output.dense.weight"
    if changes.pop("drop", False):
        del tensors[name]
    if changes.pop("reshape", False):
        tensors[name] = tensors[name][:8].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"drop": True}, r"layer\.0\.output\.dense\.weight \(wanted \[32, 64\]; got nothing\)"),
        ({"reshape": True}, r"layer\.0\.output\.dense\.weight \(wanted \[32, 64\]; got \[8, 64\]\)"),
        ({"num_hidden_layers": 1}, r"layer\.1\.[a-z.A-Z]+ \(the architecture has no such tensor; got \["),
        ({"num_hidden_layers": 3}, r"layer\.2\.[a-z.A-Z]+ \(wanted \[.*\]; got nothing\)"),
        ({"model_type": "distilbert"}, "config.json is of another architecture"),
    ],
    ids=["missing", "other shape", "fewer layers", "more layers", "another architecture"],
)
def test_a_body_that_does_not_fit_is_refused_with_names_and_shapes(
    changes: dict[str, object], told: str, tmp_path: Path
) -> None:
    network("bert", seed=4).save(tmp_path)
    damaged(tmp_path, **changes)
    with pytest.raises(DataError, match=told):
        build_network(FromFolder(path=str(tmp_path)), head="masked_lm", tokenizer=Words(), seed=1)
