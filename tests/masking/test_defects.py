"""What went wrong in the systems that adaptive masking comes from, each as a promise that it does not here.

Others stand beside what they are about: values that could only fall, unseen bases, other tokens for unseen, decay
(test_store); probabilities that lose their budget, special tokens, proportions (test_policies, tests/task); visible
tokens that pass for easy ones, probabilities that a restart forgets (tests/promises/test_adaptive); cuts and strands
that shift the probabilities, gaps (tests/data/test_crops); samples that are half measured, measuring by hand
(test_probe).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instar.masking.base import Chosen
from instar.masking.bernoulli import Bernoulli
from instar.masking.memory import Share, StoreMemory
from instar.masking.offsets import Spans
from instar.masking.statistic import measure
from instar.masking.store import Measured, open_store
from instar.masking.update import Rule
from instar.model import build_network
from instar.model.config import FromConfig
from instar.objective import Hard, Objective
from instar.trainer.callbacks.masking_store import Measures
from tests.batches import packed
from tests.masking.stores import LAYOUT, schema
from tests.masking.test_policies import located, tokenizer


def memory(folder: Path, **options: Any) -> StoreMemory:
    policy = Bernoulli(**options).build(tokenizer())
    made = StoreMemory(policy, folder, LAYOUT, 20, tell=lambda _: None)
    made.open(None, 0, Share())
    return made


def chosen(count: int, written: np.ndarray | None = None) -> Chosen:
    return Chosen(
        step=0,
        document_M=np.zeros(count, dtype=np.int64),
        ids_M=np.arange(count),
        is_written_M=np.ones(count, dtype=bool) if written is None else written,
        spans=Spans(np.arange(count) * 2, np.full(count, 2)),
        num_maskable=100,
    )


@pytest.mark.parametrize(("threshold", "known"), [(None, 5), (0.0, 5), (0.5, 2)])
def test_a_threshold_of_zero_writes_all_and_none_means_none(
    threshold: float | None, known: int, tmp_path: Path
) -> None:
    """It once meant: write nothing, and so masking was uniform without a word."""
    made = memory(tmp_path / "s", write_threshold=threshold)
    measured = made.measured(chosen(5), np.array([0.9, 0.2, 0.7, 0.1, 0.6], np.float32))
    made.apply(made.flush(measured))
    assert made.store is not None
    assert int((made.store.mapped.arrays["value"] > 0).sum()) == 2 * known
    made.close()


def test_who_opens_second_cuts_nothing(tmp_path: Path) -> None:
    first = open_store(tmp_path / "s", schema(), rule=Rule())
    one = Measured(0, Spans(np.array([4]), np.array([3])), np.array([0.5], np.float32), np.zeros(1, np.int64))
    first.apply(first.change(one))
    before = (tmp_path / "s" / "value.bin").stat()
    second = open_store(tmp_path / "s", schema(), rule=Rule())
    assert (tmp_path / "s" / "value.bin").stat().st_mtime_ns == before.st_mtime_ns
    assert first.read(Spans(np.array([4]), np.array([3])))[0] == pytest.approx(0.5, abs=0.003)
    assert second.read(Spans(np.array([4]), np.array([3])))[0] == 1.0, "a view of its own, until it is written down"


def test_samples_that_are_masked_uniformly_are_learnt_from_too(tmp_path: Path) -> None:
    """They once had no position in the file, and the writer stopped."""
    made = memory(tmp_path / "s", adaptive_samples=0.0)
    batch = located(packed([42], vocab_size=17))
    assert len(made.policy.choose(batch, 0.3, 1)) > 0
    made.apply(made.flush(made.measured(chosen(3), np.full(3, 0.5, np.float32))))
    assert made.store is not None
    assert int((made.store.mapped.arrays["value"] > 0).sum()) == 6
    made.close()


def test_visible_tokens_are_not_written(tmp_path: Path) -> None:
    made = memory(tmp_path / "s")
    shown = np.array([True, False, True])
    made.apply(made.flush(made.measured(chosen(3, shown), np.array([0.5, 0.01, 0.5], np.float32))))
    assert made.store is not None
    assert np.flatnonzero(made.store.mapped.arrays["value"]).tolist() == [0, 1, 4, 5]
    made.close()


@pytest.mark.parametrize("name", ["one_minus_p", "nll", "wrong", "entropy"])
@pytest.mark.parametrize("low", [False, True])
def test_looking_at_a_step_changes_no_gradient(name: Any, low: bool) -> None:  # noqa: FBT001
    """A second pass without gradients under bf16 once took the gradients of the first with it."""
    model = FromConfig(config="bert", num_layers=1, hidden_size=32, num_heads=2, intermediate_size=48, max_length=40)
    network = build_network(model, head="masked_lm", tokenizer=tokenizer(), seed=1)
    network.eval()
    batch = packed([30, 20], vocab_size=17)
    read_M = torch.arange(1, 20)
    from dataclasses import replace

    batch = replace(batch, read_M=read_M, target_M=batch.ids_T[read_M])

    def gradients(watch: Measures | None) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
        objective = Objective(network, (Hard(),))
        if watch is not None:
            objective.watches["it"] = watch
        network.zero_grad()
        watched = {}
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            for part in (batch, batch):  # two micro-batches
                outcome = objective(part)
                outcome.total.backward()
                watched = dict(outcome.watched)
        return [one.grad.clone() for one in network.parameters() if one.grad is not None], watched

    plain, _ = gradients(None)
    looked, watched = gradients(Measures(name))
    assert len(plain) == len(looked) > 5
    assert all(torch.equal(one, two) for one, two in zip(plain, looked, strict=True))
    assert watched["it"].shape == (19,)
    assert not watched["it"].requires_grad
    assert watched["it"].dtype == torch.float32


def test_a_statistic_is_what_it_is_called() -> None:
    logits = torch.randn(7, 11)
    target = torch.arange(7)
    p = torch.softmax(logits, -1)
    right = p[torch.arange(7), target]
    nll, correct = -right.log(), p.argmax(-1) == target
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    found = {name: measure(name, nll, correct, entropy) for name in ("one_minus_p", "nll", "wrong", "entropy")}
    torch.testing.assert_close(found["one_minus_p"], 1 - right)
    torch.testing.assert_close(found["nll"], -right.log())
    torch.testing.assert_close(found["wrong"], (~correct).float())
    torch.testing.assert_close(found["entropy"], entropy)
