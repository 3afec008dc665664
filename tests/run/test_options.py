"""Options of `train`: each changes what it says, and nothing else."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from instar.checkpoint.tensors import read_tensors
from instar.core.files.json_files import read_json, read_lines
from instar.run.check import check, describe
from instar.use.evaluate import evaluate
from tests.run.conftest import Workshop


def losses(workshop: Workshop, name: str) -> list[float]:
    return [line["loss"] for line in read_lines(workshop.folder / name / "metrics.jsonl") if line["split"] == "train"]


def train(workshop: Workshop, name: str, *overrides: str, task: str = "mlm") -> dict[str, Any]:
    return workshop.train(task, overrides, name)


def test_activation_checkpointing_changes_memory_and_not_the_curve(workshop: Workshop) -> None:
    for name, value in (("plain", "false"), ("again", "true")):
        train(workshop, name, f"train.checkpoint_activations={value}", "model.dropout=0.1")
    assert losses(workshop, "again") == pytest.approx(losses(workshop, "plain"), rel=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_the_full_curve_and_resumes(workshop: Workshop, precision: str) -> None:
    train(workshop, "full")
    train(workshop, "half", f"train.precision={precision}")
    half = losses(workshop, "half")
    assert half == pytest.approx(losses(workshop, "full"), rel=0.05)
    assert half != losses(workshop, "full")
    train(workshop, "half", f"train.precision={precision}", "train.budget=16 steps")
    assert all(math.isfinite(loss) for loss in losses(workshop, "half"))


def test_the_average_of_weights_lags_behind_and_is_what_is_evaluated(workshop: Workshop) -> None:
    train(workshop, "plain")
    train(workshop, "lagging", "train.average={decay: 0.999}")
    train(workshop, "eager", "train.average={decay: 1e-9}")
    scores = {
        name: [line["loss"] for line in read_lines(workshop.folder / name / "metrics.jsonl") if line["split"] == "eval"]
        for name in ("plain", "lagging", "eager")
    }
    assert losses(workshop, "lagging") == losses(workshop, "plain")
    assert scores["eager"] == pytest.approx(scores["plain"], rel=1e-5)
    assert scores["lagging"][-1] > scores["plain"][-1] + 0.1
    average = read_tensors(workshop.folder / "lagging" / "checkpoint-12" / "average.safetensors")
    assert average


def test_early_stopping_ends_the_run_and_says_why(workshop: Workshop) -> None:
    stopping = "train.early_stopping={metric: loss, patience: 1, min_gain: 100.0}"
    summary = train(workshop, "short", stopping, "train.eval_every=2 steps")
    assert summary["steps"] == 4
    assert "no gain in loss" in summary["stopped"]


def test_the_best_checkpoint_is_kept_beside_the_last(workshop: Workshop) -> None:
    options = ("train.save_every=1 step", "train.eval_every=3 steps", "train.keep_last=1")
    train(workshop, "kept", *options, "train.schedule={kind: constant}", "train.optimizer.lr=0.3")
    lines = [line for line in read_lines(workshop.folder / "kept" / "metrics.jsonl") if line["split"] == "eval"]
    best = min(lines, key=lambda line: line["loss"])["step"]
    there = {path.name for path in (workshop.folder / "kept").glob("checkpoint-*")}
    assert there == {f"checkpoint-{best}", "checkpoint-12"}


def test_tensorboard_files_are_written(workshop: Workshop) -> None:
    train(workshop, "board", "train.tensorboard=true")
    assert list((workshop.folder / "board" / "tensorboard").glob("events.*"))


def test_masking_at_a_moving_rate_gives_fewer_targets(workshop: Workshop) -> None:
    constant = train(workshop, "constant", "task.rate=0.3")["targets"]
    moving = train(workshop, "moving", "task.rate={start: 0.3, end: 0.15}")["targets"]
    assert 0.65 < moving / constant < 0.9


@pytest.mark.parametrize(("budget", "steps"), [("2 epochs", 12), ("30 samples", 4), ("500 tokens", None)])
def test_budgets_end_where_they_say(workshop: Workshop, budget: str, steps: int | None) -> None:
    summary = train(workshop, "budget", f"train.budget={budget}")
    if steps is None:
        assert 500 <= summary["tokens"] < 500 + 8 * 34
    else:
        assert summary["steps"] == steps
        assert summary["samples"] == {"2 epochs": 96, "30 samples": 30}[budget]


def test_batches_by_tokens_hold_at_most_so_many(workshop: Workshop) -> None:
    summary = train(workshop, "tokens", "train.batch_samples=null", "train.batch_tokens=100", "train.log_every=1")
    lines = [line for line in read_lines(workshop.folder / "tokens" / "metrics.jsonl") if line["split"] == "train"]
    sizes = [now["tokens"] - before["tokens"] for before, now in pairwise(lines)]
    assert max(sizes) <= 100
    assert sum(sizes) / len(sizes) > 70
    assert summary["steps"] == 12


def test_the_resolved_run_names_the_origin_of_each_value(workshop: Workshop) -> None:
    train(workshop, "origin", "train.optimizer.lr=1e-4")
    text = (workshop.folder / "origin" / "run.yaml").read_text()
    assert "lr: 0.0001" in text
    origin = {line.split("#")[0].strip(): line.split("#")[1].strip() for line in text.splitlines() if "#" in line}
    assert origin["lr: 0.0001"] == "command line"
    assert origin["log_every: 4"].startswith(str(workshop.folder / "mlm.yaml"))
    assert origin["prefetch: 0"] == "default"


def test_a_checkpoint_says_what_it_is_made_of(workshop: Workshop) -> None:
    summary = train(workshop, "state")
    state = read_json(Path(summary["checkpoint"]) / "state.json")
    assert state["step"] == 12
    assert state["versions"]["torch"]
    assert len(state["data_fingerprint"]) == len(state["tokenizer_fingerprint"]) == 64


@pytest.mark.parametrize("task", ["mlm", "causal_lm", "classify", "regress", "many"])
def test_check_shows_samples_and_sizes_and_trains_nothing(workshop: Workshop, task: str) -> None:
    found = check(workshop.run_file(task), [f"data.cache={workshop.folder / 'cache'}"])
    assert len(found["samples"]) == 3
    assert found["parameters"] > 1000
    assert found["steps"] == 12
    assert json.loads(json.dumps(found)) is not None
    assert any("parameters" in line for line in describe(found))
    assert not (workshop.folder / task).exists()
    summary = workshop.train(task)
    assert evaluate(Path(summary["checkpoint"]))["loss"] > 0


def test_training_the_used_rows_only_gives_the_same_curve_and_a_whole_checkpoint(workshop: Workshop) -> None:
    for name, value in (("whole", "false"), ("used", "true")):
        options = (f"train.compact_embedding={value}", "train.optimizer.weight_decay=0.0", "train.budget=8 steps")
        train(workshop, name, *options, "tokenizer.vocab_size=300", task="classify")
        train(workshop, name, *options, "tokenizer.vocab_size=300", "train.budget=12 steps", task="classify")
    assert losses(workshop, "used") == pytest.approx(losses(workshop, "whole"), rel=1e-6)
    weights = {
        name: read_tensors(workshop.folder / name / "checkpoint-12" / "model.safetensors") for name in ("whole", "used")
    }
    assert weights["used"].keys() == weights["whole"].keys()
    for name, weight in weights["whole"].items():
        assert weights["used"][name].shape == weight.shape
        assert (weights["used"][name] - weight).abs().max() < 1e-6


@pytest.mark.parametrize("task", ["mlm", "classify"])
def test_the_average_is_what_a_checkpoint_is_used_with(
    workshop: Workshop, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the embedding is cut to the rows in use."""
    lagging = ("train.average={decay: 0.99}", "tokenizer.vocab_size=300" if task == "classify" else "seed=0")
    checkpoint = Path(train(workshop, "first", *lagging, task=task)["checkpoint"])
    lines = [line for line in read_lines(workshop.folder / "first" / "metrics.jsonl") if line["split"] == "eval"]
    assert evaluate(checkpoint)["loss"] == pytest.approx(lines[-1]["loss"], rel=1e-6)
    weights, average = (read_tensors(checkpoint / f"{name}.safetensors") for name in ("model", "average"))
    assert {name: average[f"model.{name}"].shape for name in weights if f"model.{name}" in average} == {
        name: weight.shape for name, weight in weights.items() if f"model.{name}" in average
    }
    frozen = ("train.optimizer.lr=1e-12", "train.budget=1 steps", "train.schedule={kind: constant}")
    train(workshop, "second", f"model={{from: {checkpoint}}}", "tokenizer=null", *frozen, task=task)
    begun = [line for line in read_lines(workshop.folder / "second" / "metrics.jsonl") if line["split"] == "eval"]
    assert begun[-1]["loss"] == pytest.approx(lines[-1]["loss"], rel=1e-5)
    told = capsys.readouterr().err
    assert f"model: begins from {checkpoint}; the head is kept: same task" in told
    assert "tensors are the moving average of its weights (average.safetensors)" in told


def test_the_average_of_a_cut_embedding_is_resumed_bit_for_bit(workshop: Workshop) -> None:
    options = ("train.average={decay: 0.9}", "tokenizer.vocab_size=300", "train.schedule={kind: constant}")
    train(workshop, "whole", *options, "train.budget=8 steps", task="classify")
    for budget in ("5 steps", "8 steps"):
        train(workshop, "twice", *options, f"train.budget={budget}", task="classify")
    for name in ("average", "model", "optimizer"):
        whole, twice = ((workshop.folder / run / "checkpoint-8" / f"{name}.safetensors") for run in ("whole", "twice"))
        assert whole.read_bytes() == twice.read_bytes()


def shown(workshop: Workshop, task: str, *overrides: str) -> list[str]:
    return list(describe(check(workshop.run_file(task), [f"data.cache={workshop.folder / 'cache'}", *overrides])))


def test_check_shows_inputs_and_targets_side_by_side(workshop: Workshop) -> None:
    lines = shown(workshop, "mlm")
    header = next(line for line in lines if line.startswith("  place"))
    rows = [line for line in lines if line[:7].strip().isdigit()]
    assert '" "' in "".join(rows)  # a blank is seen
    targets = [line[header.index("target") :] for line in rows]
    assert any(target.startswith('"') for target in targets)
    assert any(not target for target in targets)
    assert len({line.index('"') for line in rows}) == 1
    label = next(line for line in shown(workshop, "classify") if line.startswith("  target"))
    assert label in ('  target  "bird"', '  target  "other"')


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_the_memory_of_a_loaded_model_is_that_of_a_new_one(workshop: Workshop, family: str) -> None:
    task = "causal_lm" if family == "gpt2" else "mlm"
    checkpoint = train(workshop, "first", "train.budget=1 steps", task=task)["checkpoint"]
    cache = f"data.cache={workshop.folder / 'cache'}"
    new, loaded = (
        check(workshop.run_file(task), [cache, *more, "train.batch_samples=48"])["memory_gb"]
        for more in ((), (f"model={{from: {checkpoint}}}", "tokenizer=null"))
    )
    assert loaded == new < 0.01


def test_what_a_run_cannot_have_in_full_is_told(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("train.batch_samples=null", "train.batch_tokens=20", "train.schedule.warmup=500 steps")
    train(workshop, "capped", *asked)
    said = capsys.readouterr().err
    warmup = "train.schedule.warmup: 500 steps are more than the run has (about 12 steps); it takes the whole run"
    assert warmup in said
    assert " samples are longer than 20 tokens (the longest has 34); each of them makes a step alone" in said
    lines = shown(workshop, "mlm", *asked)
    assert warmup in lines
    assert any(line.startswith("train.batch_tokens: 48 of 48 samples") for line in lines)
    train(workshop, "plain", "train.schedule.warmup=12 steps")
    assert "train.schedule" not in (said := capsys.readouterr().err)
    assert "train.batch_tokens" not in said
