"""What can be done with a checkpoint: score it, ask it, load it elsewhere, begin from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from instar.checkpoint.lineage import chain
from instar.core.errors import CheckpointError, DataError, InputMissingError, OutputError, UsageError
from instar.core.files.json_files import read_json, read_lines
from instar.run.train import train
from instar.use.evaluate import evaluate
from instar.use.predict import predict
from tests.run.conftest import TASKS, Workshop

Trained = Callable[[str], tuple[Workshop, dict[str, Any]]]
SCORES = {
    "mlm": {"loss", "perplexity", "masked_accuracy"},
    "causal_lm": {"loss", "perplexity", "accuracy", "bits_per_character"},
    "classify": {"loss", "accuracy", "f1", "matthews", "confusion"},
    "regress": {"loss", "spearman", "pearson"},
    "many": {"loss", "accuracy", "f1"},
}


@pytest.mark.parametrize("task", TASKS)
def test_evaluating_a_checkpoint_repeats_the_score_of_the_run(trained: Trained, task: str) -> None:
    workshop, summary = trained(task)
    scores = evaluate(Path(summary["checkpoint"]))
    logged = [line for line in read_lines(workshop.folder / task / "metrics.jsonl") if line["split"] == "eval"]
    assert SCORES[task] <= set(scores)
    assert scores["loss"] == pytest.approx(logged[-1]["loss"], rel=1e-6)
    assert [line["step"] for line in logged] == [6, 12]


def test_another_split_and_another_file_are_scored(trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("classify")
    checkpoint = Path(summary["checkpoint"])
    assert evaluate(checkpoint, split="test")["count"] == 60
    rows = tmp_path / "other.tsv"
    rows.write_text("text\tkind\nthe bird sings\tbird\nstone\tother\n")
    assert evaluate(checkpoint, input_file=rows)["count"] == 2
    with pytest.raises(UsageError, match=r"no data\.test"):
        evaluate(Path(trained("mlm")[1]["checkpoint"]), split="test")


@pytest.mark.parametrize("task", TASKS)
def test_each_text_of_a_file_has_its_answer_in_order(trained: Trained, task: str, tmp_path: Path) -> None:
    _, summary = trained(task)
    texts = ["the [MASK] sings", "", "stone " * 60, "dark river [MASK] under [MASK] bird"]
    given = tmp_path / "texts.jsonl"
    given.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    output = tmp_path / "answers.jsonl"
    done = predict(Path(summary["checkpoint"]), input_file=given, output=output)
    rows = read_lines(output)
    assert [row["row"] for row in rows] == [0, 1, 2, 3]
    assert rows[1] == {"row": 1, "file": str(given), "line": 2, "skipped": "the text has no token"}
    assert rows[2]["truncated"]
    assert (done["rows"], done["skipped"], done["truncated"]) == (4, 1, 1)
    if task == "mlm":
        assert [len(rows[row]["fills"]) for row in (0, 3)] == [1, 2]
        assert "[MASK]" not in rows[3]["filled"]
    elif task == "causal_lm":
        assert all(rows[row]["log_likelihood"] < 0 for row in (0, 2, 3))
    else:
        assert all("prediction" in rows[row] for row in (0, 2, 3))
    with pytest.raises(OutputError, match="exists already"):
        predict(Path(summary["checkpoint"]), input_file=given, output=output)


def test_transformers_loads_the_checkpoint(trained: Trained) -> None:
    _, summary = trained("mlm")
    model = AutoModelForMaskedLM.from_pretrained(summary["checkpoint"])
    tokenizer = AutoTokenizer.from_pretrained(summary["checkpoint"])
    assert model(**tokenizer("the bird", return_tensors="pt")).logits.shape[-1] == len(tokenizer)


def test_a_run_begins_from_a_checkpoint_of_another_task(trained: Trained, workshop: Workshop) -> None:
    first = Path(trained("mlm")[1]["checkpoint"])
    summary = workshop.train("classify", [f"model={{from: {first}}}", "tokenizer=null"])
    rows = chain(Path(summary["checkpoint"]))
    assert [Path(row["path"]).name for row in rows] == ["checkpoint-12", "checkpoint-12"]
    assert Path(rows[1]["path"]) == first


def test_what_is_no_checkpoint_is_refused_with_a_hint(trained: Trained, tmp_path: Path) -> None:
    workshop, summary = trained("mlm")
    with pytest.raises(CheckpointError, match=r"did you mean .*checkpoint-12"):
        evaluate(workshop.folder / "mlm")
    with pytest.raises(InputMissingError, match="no such folder"):
        evaluate(tmp_path / "nothing")
    with pytest.raises(InputMissingError):
        predict(Path(summary["checkpoint"]), input_file=tmp_path / "none.txt", output=tmp_path / "out.jsonl")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", ["mlm", "classify", "regress", "many"])
def test_a_checkpoint_is_used_alone(
    workshop: Workshop, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data are gone, it lies elsewhere, and it is asked from another folder."""
    monkeypatch.chdir(workshop.folder)
    file = workshop.run_file(task)
    file.write_text(file.read_text().replace(f"{workshop.folder}/", ""))
    train(file, ["data.cache=cache", "train.budget=2 steps"], output=Path("run"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    checkpoint = (workshop.folder / "run" / "checkpoint-2").rename(elsewhere / "checkpoint-2")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(InputMissingError) as gone:
        evaluate(checkpoint)
    assert "data.eval is held out of data.train" in str(gone.value)
    assert "--input FILE" in str(gone.value)
    assert f"{file_of(task)}: no such file" in str(gone.value)
    assert f"relative paths start at the current folder, {elsewhere}" in str(gone.value)
    given = (workshop.folder / file_of(task)).rename(elsewhere / f"given-{file_of(task)}")
    assert predict(checkpoint, input_file=given, output=elsewhere / "out.jsonl")["rows"] == 60
    assert evaluate(checkpoint, input_file=given)["loss"] > 0


def file_of(task: str) -> str:
    return "lines.txt" if task == "mlm" else "rows.csv"


def test_only_the_split_asked_for_is_read(workshop: Workshop) -> None:
    own_test = f"data.test.path={workshop.folder / 'test.csv'}"
    (workshop.folder / "test.csv").write_bytes((workshop.folder / "rows.csv").read_bytes())
    checkpoint = Path(workshop.train("classify", [own_test, "train.budget=2 steps"])["checkpoint"])
    (workshop.folder / "test.csv").unlink()
    assert evaluate(checkpoint)["count"] == 12
    with pytest.raises(InputMissingError, match=r"data\.test is wanted, and its file .*--input FILE\n.*test\.csv"):
        evaluate(checkpoint, split="test")


def test_what_was_held_out_of_other_data_is_not_scored(workshop: Workshop) -> None:
    checkpoint = Path(workshop.train("mlm", ["train.budget=2 steps"])["checkpoint"])
    with (workshop.folder / "lines.txt").open("a") as file:
        file.write("one more line\n")
    with pytest.raises(DataError, match=r"lines\.txt: data\.train has changed since"):
        evaluate(checkpoint)


def test_transformers_shows_the_names_of_classes(trained: Trained) -> None:
    _, summary = trained("classify")
    config = AutoModelForSequenceClassification.from_pretrained(summary["checkpoint"]).config
    assert config.id2label == {0: "bird", 1: "other"}
    assert config.label2id == {"bird": 0, "other": 1}
    labels = read_json(Path(summary["checkpoint"]) / "labels.json")
    assert labels == {"kind": "class", "names": ["bird", "other"]}
