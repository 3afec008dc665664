"""Training only the rows that occur gives what training all of them gives."""

import pytest
import torch

from instar.core.errors import DataError
from instar.model import FromFolder, build_network
from tests.model.helpers import Words, batch, mean_loss, network, prepared


def trained(compact, family="bert"):
    ours = network(family, "classify")
    ready = prepared("classify")
    if compact:
        ours.compact_embedding(ready.ids_T.tolist())
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(4):
        loss = mean_loss(ours, ready)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return ours


@pytest.mark.parametrize("family", ["bert", "distilbert", "llama"])
def test_bitwise_equal_after_training_and_saving(tmp_path, family):
    plain, compact = trained(False, family), trained(True, family)
    assert compact.num_parameters < plain.num_parameters
    compact.save(tmp_path)
    folder = FromFolder.model_validate({"from": str(tmp_path)})
    again = build_network(folder, head="classify", tokenizer=Words(), num_labels=3, seed=1)
    assert again.loaded.fresh == again.loaded.skipped == ()
    for (name, got), (_, wanted) in zip(again.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(got, wanted), name
    assert [n for n, _ in compact.named_parameters()] == [n for n, _ in plain.named_parameters()]
    mean_loss(compact, prepared("classify"))  # and training goes on


def test_other_ids_are_refused():
    compact = trained(True)
    with pytest.raises(DataError, match="was not among"):
        compact(batch((30,), seed=9))


def test_a_language_head_uses_every_row():
    with pytest.raises(ValueError, match="whole table"):
        network("bert").compact_embedding([1, 2])
