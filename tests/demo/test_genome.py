"""`demo --genome` at a reduced size: both arms are what they are called, and what is printed was measured."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from instar.cli import main
from instar.core.files.json_files import read_lines
from instar.demo import genome
from instar.demo.beside import Arm, Beside, error_of
from instar.run.folder import read_run_file


def test_figures_of_one_step_stand_side_by_side_while_one_run_is_ahead() -> None:
    class Run:
        def __init__(self, steps: int, losses: dict[int, float]) -> None:
            self.of = {"train": [{"step": steps}], "eval": [{"step": at, "loss": loss} for at, loss in losses.items()]}

        def lines(self, split: str) -> list[dict[str, float]]:
            return self.of[split]

    shown: list[tuple[int, str]] = []
    bar = SimpleNamespace(show=lambda *told: shown.append(told))
    for ahead, behind in (({}, {}), ({10: 1.4}, {}), ({10: 1.4, 20: 1.3}, {10: 1.5})):
        genome._announce(bar, SimpleNamespace(uniform=Run(20, ahead), adaptive=Run(15, behind)))
    figures = "step 15  held-out loss at 10: uniform 1.4000, adaptive 1.5000"
    assert shown == [(15, "step 15"), (15, "step 15"), (15, figures)]


@pytest.mark.long
def test_adaptive_and_uniform_masking_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured: list[Beside] = []
    show = genome.demo_genome
    monkeypatch.setattr(genome, "demo_genome", lambda *given, **named: measured.append(show(*given, **named)))
    folder = tmp_path / "demo"
    with pytest.raises(SystemExit) as left:
        main(["demo", "--genome", "--small", "--output", str(folder)])
    said = capsys.readouterr()
    assert not left.value.code, said.err
    (beside,) = measured

    for name, arm in (("uniform", beside.uniform), ("adaptive", beside.adaptive)):
        lines = read_lines(folder / name / "metrics.jsonl")
        last = [line for line in lines if line["split"] == "eval"][-1]
        assert last["step"] == 40
        assert arm.loss == pytest.approx(last["loss"], abs=1e-4)
        assert arm.rate == pytest.approx((0.4 + 0.15) / 2, rel=0.03), "it falls from the one to the other"
        assert f"{arm.loss:.4f}" in said.out
        facts = json.loads((folder / f"probed-{name}" / "probe.json").read_text())
        assert np.nanmean(arm.p_true["chrI"]) == pytest.approx(facts["mean_p_true"], abs=1e-4)
    runs = [read_run_file(folder / name / "run.yaml").model_dump() for name in ("uniform", "adaptive")]
    for run in runs:
        assert run["task"].pop("masking")
    assert runs[0] == runs[1], "they differ in their masking only"
    assert beside.verdict() in " ".join(said.out.split())
    assert {row.kind for row in beside.classes} >= {"CDS", "gene"}
    genes = next(row for row in beside.classes if row.kind == "gene")
    assert genes.uniform_share == pytest.approx(genes.num_bases / 230_208, abs=0.03)
    assert (beside.uniform.masked["chrI"] != beside.adaptive.masked["chrI"]).any()

    report = (folder / "adaptive" / "report.html").read_text(encoding="utf-8")
    assert "Masking value by annotation" in report

    page = folder / "browser.html"
    names = ("p_true: adaptive", "p_true: uniform", "times masked: uniform", "annotation")
    names += ("masking probability: adaptive",)
    text = page.read_text(encoding="utf-8")
    assert all(name in text for name in names)
    assert "default-src 'none'" in text


def arm(loss: float) -> Arm:
    return Arm(loss=loss, rate=0.2, masked={}, p_true={})


@pytest.mark.parametrize(
    ("uniform", "adaptive", "told"),
    [
        (1.30, 1.29, "Adaptive masking was better than uniform masking in this pair of runs, by 0.0100"),
        (1.29, 1.30, "Uniform masking was better than adaptive masking in this pair of runs, by 0.0100"),
        (1.2901, 1.2902, "No difference that held-out windows could tell from chance: by 0.0001"),
    ],
)
def test_the_verdict_says_who_was_better(uniform: float, adaptive: float, told: str) -> None:
    assert Beside(uniform=arm(uniform), adaptive=arm(adaptive), error=0.002, classes=()).verdict().startswith(told)


def test_the_error_of_a_difference_is_that_of_paired_windows() -> None:
    rng = np.random.default_rng(0)
    count_W = rng.integers(20, 30, 4000)
    shared_W = rng.normal(1.3, 0.5, 4000) * count_W  # windows differ much more than runs do
    noise_W = rng.normal(0, 0.01, 4000) * count_W
    found = error_of(shared_W, shared_W + noise_W, count_W)
    assert found == pytest.approx(0.01 / np.sqrt(4000), rel=0.1)
