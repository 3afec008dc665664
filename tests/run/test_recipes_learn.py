"""A recipe is worth its time where it beats what counting gives: the longest that a test can afford."""

from pathlib import Path

import pytest

from instar.cli.init import recipes
from instar.run.train import train


@pytest.mark.slow
@pytest.mark.parametrize(("name", "budget"), [("gene-start-classify", "6 epochs")])
def test_a_classifier_beats_naive_bayes(name: str, budget: str, tmp_path: Path) -> None:
    options = (f"train.budget={budget}", f"data.cache={tmp_path / 'cache'}", "train.threads=1", "train.device=cpu")
    summary = train(recipes()[name], options, output=tmp_path / "run")
    assert summary["best_score"] > summary["eval_baseline_accuracy"] > 0.7
