"""Runs whose training data are streamed: exact on resume, right labels, and refusals before anything is written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from instar.core.errors import CheckpointError, ConfigError, DataError
from instar.core.files.json_files import read_lines
from instar.run.check import check
from instar.run.train import train
from instar.trainer import Callback
from instar.trainer.state import TrainState
from instar.use.evaluate import evaluate
from tests.run.conftest import Workshop

LABELS = {"classify": "task.labels=[bird, other]", "many": "task.labels=[bird, dark, none, stone]"}


def halves(workshop: Workshop, task: str) -> str:
    """The training data of a task over two files."""
    name = "lines.txt" if task in ("mlm", "causal_lm") else "rows.csv"
    lines = (workshop.folder / name).read_text().splitlines(keepends=True)
    head = [] if name == "lines.txt" else lines[:1]
    paths = [workshop.folder / f"{number}-{name}" for number in range(2)]
    for path, part in zip(paths, (lines[len(head) : 31], lines[31:]), strict=True):
        path.write_text("".join(head + part))
    return json.dumps([str(path) for path in paths])


def options(workshop: Workshop, task: str) -> list[str]:
    found = [
        f"data.train.path={halves(workshop, task)}",
        "data.streaming={documents: 9}",
        "data.eval=null",
        "train.budget=20 steps",
        "train.save_every=3 steps",
        "train.keep_last=20",
        "train.log_every=1",
        f"data.cache={workshop.folder / 'cache'}",
    ]
    return found + (["data.test=null"] if task == "classify" else []) + ([LABELS[task]] if task in LABELS else [])


class Stopped(Exception):  # noqa: N818
    """The end of a life."""


class StopAfter(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def step_ended(self, state: TrainState, result: Any) -> None:
        if state.step == self.step:
            raise Stopped


def run(workshop: Workshop, task: str, name: str, more: Sequence[str] = (), extra: Sequence[Callback] = ()) -> Path:
    output = workshop.folder / name
    train(workshop.run_file(task), [*options(workshop, task), *more], output=output, extra=extra)
    return output


@pytest.mark.parametrize("task", ["mlm", "causal_lm", "classify", "regress", "many"])
def test_ended_and_resumed(workshop: Workshop, task: str) -> None:
    """Within a block, in the second file, in the second pass; with steps prepared ahead or without."""
    whole = run(workshop, task, "whole")
    for step, ahead in ((4, 0), (8, 3), (17, 1)):
        with pytest.raises(Stopped):
            run(workshop, task, f"again{step}", [f"train.prefetch={ahead}"], [StopAfter(step)])
        again = run(workshop, task, f"again{step}", [f"train.prefetch={ahead}"])
        wanted, found = (load_file(folder / "checkpoint-20" / "model.safetensors") for folder in (whole, again))
        assert all((wanted[name] == found[name]).all() for name in wanted)
        rows = [[row["loss"] for row in read_lines(folder / "metrics.jsonl")] for folder in (whole, again)]
        assert rows[0] == rows[1]
    state = json.loads((whole / "checkpoint-18" / "state.json").read_text())
    position = state["callbacks"]["StreamPosition"]
    assert position["epoch"] == 2, "20 steps of 8 of 60 documents"
    assert position["samples"] <= state["counters"]["samples"] == 144


def test_check_shows_that_it_is_streamed(workshop: Workshop) -> None:
    found = check(workshop.run_file("mlm"), options(workshop, "mlm"))
    assert found["epochs"] is None
    assert any("is streamed" in line and "first 9 documents" in line for line in found["summary"])
    assert found["samples"][0]["tokens"] > 2


def test_what_needs_the_whole_corpus_is_refused_at_once(workshop: Workshop) -> None:
    changed = ["data.eval={split: 0.2}", "data.too_long=error", "data.processes=2", "train.budget=2 epochs"]
    changed += ["train.save_every=1 epochs", "task.masking={kind: adaptive}", "train.schedule.warmup=1 epochs"]
    with pytest.raises(ConfigError) as caught:
        run(workshop, "mlm", "run", changed)
    text = str(caught.value)
    for key in ("eval.split", "too_long", "processes", "budget", "save_every", "masking.kind", "schedule.warmup"):
        assert f"{key}:" in text
    assert not (workshop.folder / "run").exists()


def test_classes_must_be_named_and_held_out_files_be_others(workshop: Workshop) -> None:
    path = workshop.folder / "0-rows.csv"
    with pytest.raises(ConfigError) as caught:
        run(workshop, "classify", "run", ["task.labels=null", f'data.test={{kind: csv, path: "{path}", label: kind}}'])
    assert "task.labels: a streamed corpus is not read to its end" in str(caught.value)
    assert f"data.test: {path} is streamed for training too" in str(caught.value)
    assert not (workshop.folder / "run").exists()


def test_another_class_in_a_later_block_ends_the_run_with_its_line(workshop: Workshop) -> None:
    name = workshop.run_file("classify")
    given = options(workshop, "classify")
    with (workshop.folder / "1-rows.csv").open("a") as file:
        file.write("a stone,mineral,2,stone\n")
    with pytest.raises(DataError, match=r"1-rows\.csv:32.*mineral"):
        train(name, given, output=workshop.folder / "run")


def test_changed_files_do_not_resume(workshop: Workshop) -> None:
    with pytest.raises(Stopped):
        run(workshop, "mlm", "run", extra=[StopAfter(5)])
    given = options(workshop, "mlm")
    with (workshop.folder / "1-lines.txt").open("a") as file:
        file.write("one more line\n")
    with pytest.raises((CheckpointError, ConfigError, DataError), match="data"):
        train(workshop.run_file("mlm"), given, output=workshop.folder / "run")


def test_a_tokenizer_is_learnt_from_the_first_block(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    run(workshop, "mlm", "run", ["tokenizer={kind: wordpiece, vocab_size: 60}"])
    assert "learning wordpiece from the first 9 documents" in capsys.readouterr().err


def test_evaluation_does_not_read_the_corpus(workshop: Workshop) -> None:
    held_out = workshop.folder / "held-out.txt"
    held_out.write_text((workshop.folder / "lines.txt").read_text())
    evaluated = [f'data.eval={{kind: text, path: "{held_out}", documents: line}}', "train.budget=4 steps"]
    folder = run(workshop, "mlm", "run", evaluated)
    for path in workshop.folder.glob("?-lines.txt"):
        path.unlink()
    scores = evaluate(folder / "checkpoint-4")
    assert scores["loss"] == read_lines(folder / "metrics.jsonl")[-1]["loss"]
    assert "baseline" not in scores
