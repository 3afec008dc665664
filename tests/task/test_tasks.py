import numpy as np
import pytest
import torch

from instar.core.errors import DataError
from instar.task import StepContext
from instar.task.causal_lm import CausalLMTask
from instar.task.classify import ClassifyTask
from instar.task.mlm import MaskedLM, MaskedLMTask, RateSchedule
from tests.batches import packed

MASK, VOCABULARY = 4, 1000


def mlm(**options: object) -> MaskedLMTask:
    return MaskedLMTask(MaskedLM.model_validate(options), MASK, VOCABULARY, {0, 1, 2, 3, 4})


def moment(step: int = 0, progress: float = 0.0, *, evaluating: bool = False) -> StepContext:
    return StepContext(seed=3, step=step, progress=progress, evaluating=evaluating)


def test_targets_are_the_tokens_that_were_there() -> None:
    batch = packed([30] * 40, vocab_size=VOCABULARY)
    prepared = mlm().prepare(batch, moment())
    assert torch.equal(prepared.target_M, batch.ids_T[prepared.read_M])
    untouched = torch.ones(batch.num_tokens, dtype=torch.bool)
    untouched[prepared.read_M] = False
    assert torch.equal(prepared.ids_T[untouched], batch.ids_T[untouched])


def test_chosen_places_show_mask_random_and_right_tokens_in_their_shares() -> None:
    batch = packed([30] * 3000, vocab_size=VOCABULARY)
    prepared = mlm(rate=0.5).prepare(batch, moment())
    shown_M, target_M = prepared.ids_T[prepared.read_M], prepared.target_M
    masked, kept = shown_M == MASK, shown_M == target_M
    assert abs(float(masked.float().mean()) - 0.8) < 0.01
    assert abs(float(kept.float().mean()) - 0.1) < 0.01
    random_M = shown_M[~masked & ~kept]
    assert random_M.min() >= 5
    assert len(random_M.unique()) > 0.9 * (VOCABULARY - 5)


def test_mask_share_of_one_shows_the_mask_alone() -> None:
    prepared = mlm(mask_share=1.0).prepare(packed([30] * 40), moment())
    assert (prepared.ids_T[prepared.read_M] == MASK).all()


def test_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        MaskedLM(mask_share=0.9, random_share=0.2)


def test_masks_differ_by_step_and_seed_and_agree_in_evaluation() -> None:
    batch, task = packed([30] * 40), mlm()
    first = task.prepare(batch, moment(0))
    assert torch.equal(first.read_M, task.prepare(batch, moment(0)).read_M)
    assert not torch.equal(first.read_M, task.prepare(batch, moment(1)).read_M)
    judged = [task.prepare(batch, moment(step, step / 10, evaluating=True)).read_M for step in (0, 7)]
    assert torch.equal(*judged)


def test_the_rate_moves_with_the_budget() -> None:
    task = mlm(rate={"start": 0.3, "end": 0.15})
    batch = packed([1002] * 10)
    shares = [task.prepare(batch, moment(progress=progress)).num_targets / 10_000 for progress in (0.0, 0.5, 1.0)]
    assert shares == pytest.approx([0.3, 0.225, 0.15], abs=1e-3)
    cosine = RateSchedule(start=0.3, end=0.1, shape="cosine")
    assert cosine.at(0.25) == pytest.approx(0.3 - 0.2 * (0.5 - 0.5 * np.cos(np.pi / 4)))


def test_evaluation_masks_at_the_last_rate_or_its_own() -> None:
    batch = packed([1002] * 10)
    last = mlm(rate={"start": 0.3, "end": 0.15}).prepare(batch, moment(evaluating=True))
    own = mlm(evaluation_rate=0.4).prepare(batch, moment(evaluating=True))
    assert (last.num_targets, own.num_targets) == (1500, 4000)


def test_a_step_without_a_place_to_mask_is_an_error_that_names_its_samples() -> None:
    assert mlm(rate=0.01).prepare(packed([3, 3]), moment()).num_targets == 1
    assert mlm().prepare(packed([2, 2]), moment(5, evaluating=True)).num_targets == 0
    with pytest.raises(DataError, match=r"step 5: none of its 4 tokens may be masked \(samples \[0, 1\]"):
        mlm().prepare(packed([2, 2]), moment(5))


def test_the_next_token_is_the_target_within_documents_only() -> None:
    batch = packed([4, 1, 3])
    prepared = CausalLMTask().prepare(batch, moment())
    assert prepared.read_M.tolist() == [0, 1, 2, 5, 6]
    assert torch.equal(prepared.target_M, batch.ids_T[[1, 2, 3, 6, 7]])
    with pytest.raises(DataError, match="one token each"):
        CausalLMTask().prepare(packed([1, 1]), moment())


def test_documents_without_labels_cannot_be_classified() -> None:
    with pytest.raises(DataError, match="label column"):
        ClassifyTask().prepare(packed([4]), moment())
