"""`train.metrics`: figures of the training step from its own forward pass, which change nothing and come back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recipes import lines_of
from runs import break_off, left, run

from instar.core.errors import ConfigError
from instar.objective import Objective

METRICS = "train.metrics=[p_true, entropy]"


def test_they_change_no_curve_and_say_what_the_pass_said(
    shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("train.budget=6 steps", "train.log_every=6", "train.micro_tokens=64", "model.dropout=0.0")
    run(shrunk("dna-mlm"), tmp_path / "plain", *options)
    said: list[tuple[torch.Tensor, torch.Tensor]] = []
    forward = Objective.forward

    def spied(self: Objective, batch: object) -> object:
        with torch.no_grad():
            chances = torch.softmax(self.network(batch).logits_MV().double(), -1)  # type: ignore[attr-defined]
        said.append((chances.gather(1, batch.target_M[:, None]), -(chances * chances.log()).sum(-1)))  # type: ignore[attr-defined]
        return forward(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Objective, "forward", spied)
    run(shrunk("dna-mlm"), tmp_path / "run", METRICS, *options)
    (line,), (plain,) = (lines_of(tmp_path / name / "metrics.jsonl", "train") for name in ("run", "plain"))
    assert line["loss"] == plain["loss"]
    assert "p_true" not in plain
    for number, name in enumerate(("p_true", "entropy")):
        whole = torch.cat([one[number].reshape(-1) for one in said])
        assert line[name] == pytest.approx(float(whole.mean()), rel=1e-5)


def test_they_come_back_with_the_run(shrunk: Callable, tmp_path: Path) -> None:
    options = ("train.budget=7 steps", "train.log_every=3", METRICS)
    run(shrunk("dna-mlm"), tmp_path / "whole", *options)
    break_off(shrunk("dna-mlm"), tmp_path / "run", "step_ended", 5, *options)
    run(shrunk("dna-mlm"), tmp_path / "run", *options)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_a_classifier_has_no_tokens_to_measure(shrunk: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.metrics: are of tokens"):
        run(shrunk("splice-classify"), tmp_path / "run", "train.metrics=[p_true]")
