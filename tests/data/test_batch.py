import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.batches import packed

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=12)


@given(LENGTHS, st.integers(1, 40))
def test_pieces_are_bounded_and_together_the_whole(lengths: list[int], most: int) -> None:
    batch = packed(lengths)
    batch = batch.reading(torch.arange(0, batch.num_tokens, 3))
    batch = type(batch)(**{**vars(batch), "target_M": batch.ids_T[batch.read_M]})
    pieces = list(batch.split(most))
    assert all(piece.num_tokens <= most or len(piece) == 1 for piece in pieces)
    assert torch.equal(torch.cat([piece.ids_T for piece in pieces]), batch.ids_T)
    assert torch.equal(torch.cat([piece.target_M for piece in pieces]), batch.target_M)
    for piece in pieces:
        assert torch.equal(piece.ids_T[piece.read_M], piece.target_M)
    assert sum(piece.num_targets for piece in pieces) == batch.num_targets


@given(LENGTHS, st.data())
def test_chosen_documents_keep_their_tokens_and_targets(lengths: list[int], data: st.DataObject) -> None:
    batch = packed(lengths)
    batch = type(batch)(**{**vars(batch), "read_M": torch.arange(batch.num_tokens), "target_M": batch.ids_T})
    chosen = sorted(data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1)))
    part = batch.select(chosen)
    rows = batch.ids_T.split(list(lengths))
    assert torch.equal(part.ids_T, torch.cat([rows[d] for d in chosen]))
    assert torch.equal(part.target_M, part.ids_T)
    assert part.samples_D.tolist() == chosen
    assert part.positions_T().tolist() == [place for d in chosen for place in range(lengths[d])]
