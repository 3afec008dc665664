"""`train.metrics`: figures of the training step from its own forward pass, which change nothing and come back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recipes import lines_of
from runs import break_off, distance, left, run

from instar.core.errors import ConfigError, UsageError
from instar.objective import Objective
from instar.run.train import train
from instar.use.report import report

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


def test_a_classifier_has_the_scores_of_its_labels(shrunk: Callable, tmp_path: Path) -> None:
    """From the training pass: those of the last step's documents, whole confusion counts and all."""
    options = ("train.metrics=[f1_macro, matthews, p_true]", "train.log_every=2", "train.early_stopping=null")
    run(shrunk("splice-classify"), tmp_path / "run", *options)
    run(shrunk("splice-classify"), tmp_path / "pieces", *options, "train.micro_tokens=40")
    lines, pieces = (lines_of(tmp_path / name / "metrics.jsonl", "train") for name in ("run", "pieces"))
    for one, two in zip(lines, pieces, strict=True):
        for name in ("accuracy", "f1_macro", "matthews", "p_true"):
            assert one[name] == pytest.approx(two[name], rel=1e-5)
            assert -1 <= one[name] <= 1
    assert "f1" not in lines[0]


def test_a_figure_is_shown_wherever_figures_are(
    shrunk: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shrunk("dna-mlm"), tmp_path / "run", METRICS, "train.budget=6 steps", "train.log_every=2")
    assert "  p_true 0." in capsys.readouterr().err
    page = report(tmp_path / "run").read_text()
    assert "p_true" in page
    assert "entropy" in page


def test_a_score_that_is_no_sum_is_refused_with_those_that_are(shrunk: Callable, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"train.metrics: wanted a score .*mean_absolute_error.*; got 'spearman'; others"
    ):
        run(shrunk("movie-rating"), tmp_path / "run", "train.metrics=[spearman]")
    with pytest.raises(ConfigError, match=r"got 'f1_makro'.*f1_macro"):
        run(shrunk("splice-classify"), tmp_path / "run", "train.metrics=[f1_makro]")


def test_the_key_may_change_when_a_run_is_resumed(shrunk: Callable, tmp_path: Path) -> None:
    options = ("train.budget=7 steps", "train.log_every=3")
    run(shrunk("dna-mlm"), tmp_path / "whole", *options, METRICS)
    break_off(shrunk("dna-mlm"), tmp_path / "run", "step_ended", 5, *options)
    run(shrunk("dna-mlm"), tmp_path / "run", *options, METRICS)
    assert distance(tmp_path / "run", tmp_path / "whole") == 0
    whole, found = (lines_of(tmp_path / name / "metrics.jsonl", "train") for name in ("whole", "run"))
    assert [line["loss"] for line in found] == [line["loss"] for line in whole]
    assert "p_true" in found[-1]


def test_functions_of_ones_own_are_figures_too(shrunk: Callable, tmp_path: Path) -> None:
    small = shrunk("splice-classify")

    def sure(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, int]:
        assert not logits.requires_grad
        return (logits.softmax(-1).amax(-1) > 0.5).sum(), len(targets)

    def right(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, int]:
        return (logits.argmax(-1) == targets).sum(), len(targets)

    options = [*small.overrides, "train.early_stopping=null", "train.micro_tokens=40"]
    train(small.file, options, output=tmp_path / "run", metrics={"sure": sure, "right": right})
    train(small.file, options, output=tmp_path / "plain")
    for line in lines_of(tmp_path / "run" / "metrics.jsonl", "train"):
        assert line["right"] == line["accuracy"]
        assert 0 <= line["sure"] <= 1
    assert distance(tmp_path / "run", tmp_path / "plain") == 0
    with pytest.raises(UsageError, match="metrics: accuracy: is a figure of instar's own"):
        train(small.file, options, output=tmp_path / "taken", metrics={"accuracy": right})
