"""A recipe is worth its time where it beats what counting gives: the longest that a test can afford."""

from pathlib import Path
from typing import Any

import pytest

from instar.cli.init import recipes
from instar.run.train import train


def _trained(name: str, folder: Path, *options: str) -> dict[str, Any]:
    fixed = (f"data.cache={folder / 'cache'}", "train.threads=1", "train.device=cpu")
    return train(recipes()[name], (*fixed, *options), output=folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "budget"),
    [("gene-start-classify", "6 epochs"), ("splice-classify", "3 epochs"), ("gpt-classify", "2 epochs")],
)
def test_a_classifier_beats_naive_bayes(name: str, budget: str, tmp_path: Path) -> None:
    summary = _trained(name, tmp_path, f"train.budget={budget}")
    assert summary["best_score"] > summary["eval_baseline_accuracy"] > 0.5


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        pytest.param("movie-rating", 120, marks=pytest.mark.slow),
        pytest.param("text-characters", 800, marks=pytest.mark.long),
        pytest.param("gpt-complete", 160, marks=pytest.mark.slow),
        pytest.param("text-gpt", 500, marks=pytest.mark.long),
        pytest.param("text-mlm", 1300, marks=pytest.mark.long),
        pytest.param("text-mlm-adaptive", 1300, marks=pytest.mark.long),
        pytest.param("dna-mlm", 250, marks=pytest.mark.long),
        pytest.param("dna-mlm-adaptive", 250, marks=pytest.mark.long),
    ],
)
def test_the_loss_is_lower_than_that_of_counting(name: str, steps: int, tmp_path: Path) -> None:
    summary = _trained(name, tmp_path, f"train.budget={steps} steps", f"train.eval_every={steps} steps")
    assert summary["eval_loss"] < summary["eval_baseline_loss"]
