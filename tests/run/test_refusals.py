"""What a run file or a command line may not ask for, told before anything is written."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instar import metric
from instar.cli import main
from instar.config.load import load
from instar.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    InputMissingError,
    InstarError,
    OutputError,
    UsageError,
)
from instar.run.config import RunConfig
from instar.run.train import train
from instar.task import CausalLM, Classify, MaskedLM
from instar.trainer import Runtime
from instar.use.predict import predict
from tests.run.conftest import Workshop

SCORES = {
    ("mlm", "none"): metric.language_model_scores(1.0, 1, 2, masked=True),
    ("causal_lm", "none"): metric.language_model_scores(1.0, 1, 2, 3, masked=False),
    ("classify", "class"): metric.classification_scores(np.array([0, 1]), np.eye(2), ["a", "b"]),
    ("classify", "many"): metric.multi_label_scores(np.eye(2), np.eye(2), ["a", "b"]),
    ("classify", "number"): metric.regression_scores(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 3.0])),
}


def refusal(error: type[InstarError], workshop: Workshop, task: str, *overrides: str, output: str = "run") -> str:
    with pytest.raises(error) as refused:
        workshop.train(task, overrides, output)
    assert not (workshop.folder / output).exists()
    return str(refused.value)


@pytest.mark.parametrize(("task", "labels"), SCORES)
def test_the_names_of_scores_are_those_that_evaluation_gives(task: str, labels: str) -> None:
    scores = SCORES[task, labels]
    kinds = {kind.model_fields["kind"].default: kind for kind in (MaskedLM, CausalLM, Classify)}
    names = kinds[task]().score_names(labels)
    assert names == tuple(name for name, value in scores.items() if type(value) is float)


def test_scores_that_do_not_exist_are_refused_with_their_lines(workshop: Workshop) -> None:
    path = workshop.run_file("classify")
    path.write_text(
        path.read_text().replace("\ntrain: {", "\ntrain: {best_metric: acuracy,\n  early_stopping: {metric: f2}, ")
    )
    with pytest.raises(ConfigError) as refused:
        load(path, RunConfig, ["task.pooling=mean"])
    best, stopping = refused.value.problems
    assert best.startswith(f"{path}:3: train.best_metric: wanted a score of this task (loss, accuracy, f1,")
    assert best.endswith("got 'acuracy'; did you mean 'accuracy'?")
    assert stopping.startswith(f"{path}:4: train.early_stopping.metric: wanted a score")
    load(workshop.run_file("regress"), RunConfig, ["train.best_metric=spearman"])
    load(workshop.run_file("many"), RunConfig, ["train.best_metric=f1_micro"])


def test_early_stopping_needs_data_to_evaluate_on(workshop: Workshop) -> None:
    said = refusal(ConfigError, workshop, "mlm", "data.eval=null", "train.early_stopping={}")
    assert said.startswith("command line: train.early_stopping: needs data to evaluate on; set data.eval")


def test_an_interval_of_evaluation_without_data_is_told(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    workshop.train("mlm", ["data.eval=null", "train.budget=1 steps"])
    assert "train.eval_every: there is no data.eval, so nothing is evaluated" in capsys.readouterr().err


def test_devices(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "wanted auto, cpu, cuda or cuda:1; got 'gpu'" in refusal(ConfigError, workshop, "mlm", "train.device=gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="got cuda:2, and the GPUs here are 0 to 1"):
        Runtime.start("cuda:2")


def test_a_model_keeps_its_tokenizer(workshop: Workshop) -> None:
    first = workshop.train("mlm", ["train.budget=1 steps"], "first")["checkpoint"]
    model = f"model={{from: {first}}}"
    other = ("tokenizer={kind: character, max_size: 12}", "train.budget=1 steps")
    said = refusal(DataError, workshop, "mlm", model, *other, output="second")
    assert "their ids mean other tokens, so set tokenizer: null" in said
    workshop.train("mlm", [model, "train.budget=1 steps"], "same")  # learnt again, it is the model's own


def test_going_on_from_a_checkpoint_of_another_run_is_refused(workshop: Workshop) -> None:
    summary = workshop.train("mlm", ["train.budget=6 steps"], "first")
    call = [str(workshop.run_file("mlm")), f"data.cache={workshop.folder / 'cache'}", "--resume", summary["checkpoint"]]
    with pytest.raises(CheckpointError, match=r"is of another run \(train.optimizer.lr was 0.005, is 0.01\)"):
        train(Path(call[0]), [call[1], "train.optimizer.lr=1e-2"], resume=call[3], output=workshop.folder / "second")
    assert not (workshop.folder / "second").exists()


def test_where_nothing_can_be_written(trained: Any, tmp_path: Path) -> None:
    workshop, summary = trained("mlm")
    with pytest.raises(OutputError, match="cannot be written"):
        predict(Path(summary["checkpoint"]), input_file=workshop.folder / "lines.txt", output=tmp_path / "no" / "a")
    with pytest.raises(OutputError, match="cannot be written"):
        workshop.train("mlm", name="/proc/instar")
    with pytest.raises(OutputError, match="/proc/cache: cannot be written"):
        workshop.train("mlm", ["data.cache=/proc/cache"], name="uncached")


def test_results_are_json_for_programs(trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workshop, summary = trained("classify")
    answers = str(tmp_path / "answers.jsonl")
    source = str(workshop.folder / "lines.txt")
    for arguments in (
        ["predict", summary["checkpoint"], "--input", source, "--output", answers],
        ["report", summary["run"]],
    ):
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--json"])
        assert left.value.code == 0
        said = json.loads(capsys.readouterr().out)
        assert Path(said.get("output") or said["report"]).is_file()


def test_a_score_that_is_no_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    from instar.cli.options import show

    show({"perplexity": math.inf, "loss": 1.0}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"perplexity": None, "loss": 1.0}


def test_a_warning_stays_on_its_line(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    summary = workshop.train("mlm", ["train.budget=1 steps"])
    weights = Path(summary["checkpoint"]) / "model.safetensors"
    weights.write_bytes(b"nothing")
    workshop.train("mlm", ["train.budget=1 steps"])
    aside = workshop.folder / "mlm" / "quarantine" / "checkpoint-1"
    assert f"moved to {aside}" in capsys.readouterr().err


def test_one_document_names_its_file_and_the_way_out(workshop: Workshop) -> None:
    said = refusal(DataError, workshop, "mlm", "data.train.documents=file")
    lines = workshop.folder / "lines.txt"
    assert said.startswith(f"data.eval: {lines}: there is one document only, so none can be held out whole; ")
    assert said.endswith("; or, if each line is a document, set data.train.documents: line")


@pytest.mark.parametrize("tokenizer", ["null", "{kind: character}"])
def test_a_run_is_no_model_and_its_checkpoint_is(workshop: Workshop, tokenizer: str) -> None:
    workshop.train("mlm", ["train.budget=1 steps"], "first")
    first = workshop.folder / "first"
    said = refusal(InputMissingError, workshop, "mlm", f"model={{from: {first}}}", f"tokenizer={tokenizer}")
    assert said == f"model.from: {first} is a run, not a model; did you mean {first / 'checkpoint-1'}?"


@pytest.mark.parametrize("value", ["5 stepz", "1.5", "-3 steps"])
def test_a_bad_span_is_told_once(workshop: Workshop, value: str) -> None:
    said = refusal(ConfigError, workshop, "mlm", f"train.schedule.warmup={value}")
    assert said.count("wanted ") == said.count("got ") == 1
    assert "a number above 0 and a unit (steps, epochs, samples, tokens), like '500 steps'; got" in said


def test_the_users_own_run_file_is_not_written_over(workshop: Workshop) -> None:
    """A run file called run.yaml, and its folder as the output: the resolved run would take its place."""
    path = workshop.folder / "run.yaml"
    path.write_text("# mine\n" + workshop.run_file("mlm").read_text())
    before, short = path.read_text(), [f"data.cache={workshop.folder / 'cache'}", "train.budget=1 steps"]
    with pytest.raises(OutputError, match=r"run\.yaml: the resolved run would be written over it; choose another"):
        train(path, short, output=workshop.folder)
    assert path.read_text() == before
    done = train(path, short, output=workshop.folder / "out")
    resolved = workshop.folder / "out" / "run.yaml"
    again = train(resolved, ["train.budget=2 steps"], output=workshop.folder / "out")  # nothing is lost there
    assert (done["steps"], again["steps"]) == (1, 2)


def test_a_run_named_where_a_checkpoint_is_wanted_is_told_its_newest(workshop: Workshop) -> None:
    short = [f"data.cache={workshop.folder / 'cache'}", "train.budget=1 steps"]
    done = train(workshop.run_file("mlm"), short, output=workshop.folder / "out")
    with pytest.raises(CheckpointError, match=f"is no checkpoint of instar; did you mean {done['checkpoint']}"):
        train(workshop.run_file("mlm"), short, resume=done["run"], output=workshop.folder / "second")


def test_one_class_alone_is_nothing_to_tell_apart(workshop: Workshop) -> None:
    rows = workshop.folder / "rows.csv"
    lines = [f"{line.split(',')[0]},bird,1,none" for line in rows.read_text().splitlines()[1:]]
    rows.write_text("\n".join(["text,kind,size,traits", *lines]) + "\n")
    said = refusal(DataError, workshop, "classify", output="alone")
    assert said.startswith(f"{rows}: every label is 'bird'; a classifier wants two classes or more")


def test_more_threads_than_any_machine_has_are_refused(workshop: Workshop) -> None:
    said = refusal(ConfigError, workshop, "mlm", "train.threads=100000", output="threads")
    assert said == "command line: train.threads: wanted a number of at most 1024; got 100000"


def test_a_folder_without_a_tokenizer_is_not_learnt_from(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(DataError, workshop, "mlm", f"tokenizer={{from: {workshop.folder}}}", output="none")
    assert said.startswith(f"{workshop.folder}: no tokenizer here")
    assert "learning" not in capsys.readouterr().err
