"""Texts that a checkpoint writes, fills in, or judges, from the command line on."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from instar.cli import main
from instar.core.errors import ConfigError, DataError, OutputError, UsageError
from instar.core.files.json_files import read_lines
from instar.use.evaluate import evaluate
from instar.use.fill_mask import fill_mask
from instar.use.generate import generate, generate_file
from instar.use.predict import predict_split
from tests.run.conftest import Workshop

Trained = Callable[[str], tuple[Workshop, dict[str, Any]]]


def quiet(line: str) -> None:
    raise AssertionError(line)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_a_prompt_goes_on_the_same_alone_and_from_a_file(trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("causal_lm")
    checkpoint = Path(summary["checkpoint"])
    pieces: list[str] = []
    alone = generate(checkpoint, "the bird", ["max_new_tokens=10"], log=quiet, on_text=pieces.append)
    assert "".join(pieces) == alone["text"]
    (tmp_path / "prompts.txt").write_text("the bird\n\ndark stone runs\n")
    done = generate_file(
        checkpoint,
        input_file=tmp_path / "prompts.txt",
        output=tmp_path / "texts.jsonl",
        overrides=["max_new_tokens=10", "log_probabilities=true"],
        log=quiet,
    )
    rows = read_lines(tmp_path / "texts.jsonl")
    assert (done["rows"], done["skipped"]) == (3, 1)
    assert rows[0]["ids"] == alone["ids"]
    assert len(rows[0]["log_probabilities"]) == rows[0]["tokens"]
    assert rows[1]["skipped"]
    with pytest.raises(OutputError, match="exists already"):
        generate_file(checkpoint, input_file=tmp_path / "x", output=tmp_path / "texts.jsonl", overrides=(), log=quiet)


def test_what_generate_refuses(trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("causal_lm")
    checkpoint = Path(summary["checkpoint"])
    with pytest.raises(ConfigError, match=r"temperatur.*did you mean") as faults:
        generate(checkpoint, "the", ["temperatur=1", "top_p=2"], log=quiet)
    assert len(faults.value.problems) == 2
    with pytest.raises(ConfigError, match="beams are followed without drawing"):
        generate(checkpoint, "the", ["temperature=1", "num_beams=2"], log=quiet)
    with pytest.raises(UsageError, match="max_new_tokens: wanted less than 34"):
        generate(checkpoint, "the", ["max_new_tokens=34"], log=quiet)
    with pytest.raises(DataError, match="the prompt is empty"):
        generate(checkpoint, "", [], log=quiet)
    with pytest.raises(UsageError, match="wanted a model that writes text; this one fills in tokens"):
        generate(Path(trained("mlm")[1]["checkpoint"]), "the", [], log=quiet)
    (tmp_path / "bad.txt").write_bytes(b"the bird\nthe \xff stone\n")
    with pytest.raises(DataError, match=r"bad\.txt:2"):
        generate_file(
            checkpoint,
            input_file=tmp_path / "bad.txt",
            output=tmp_path / "out.jsonl",
            overrides=["max_new_tokens=3"],
            log=quiet,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.txt"]


def test_a_long_prompt_is_said_once_with_counts(trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("causal_lm")
    told: list[str] = []
    (tmp_path / "long.txt").write_text("\n".join(["the bird " * 40, "the", "stone " * 50]) + "\n")
    done = generate_file(
        Path(summary["checkpoint"]),
        input_file=tmp_path / "long.txt",
        output=tmp_path / "out.jsonl",
        overrides=["max_new_tokens=8"],
        log=told.append,
    )
    assert done["truncated"] == 2
    assert len(told) == 1
    assert "2 of 3 have more than 26 tokens" in told[0]


def test_generate_on_the_command_line(
    trained: Trained, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = trained("causal_lm")[1]["checkpoint"]
    words = ("generate", checkpoint, "the bird", "max_new_tokens=6")
    code, out, _ = command(capsys, *words)
    assert code == 0
    assert out.startswith("the bird")
    code, as_json, _ = command(capsys, *words, "--json")
    assert out == f"the bird{json.loads(as_json)['text']}\n"
    assert command(capsys, "generate", checkpoint)[0] == 2
    assert command(capsys, "generate", checkpoint, "x", "--output", str(tmp_path / "o.jsonl"))[0] == 2
    assert command(capsys, "generate", checkpoint, "")[0] == 65


def test_a_talk_keeps_what_was_said(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = trained("causal_lm")[1]["checkpoint"]
    given = "the bird\n\nstone\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    code, out, _ = command(capsys, "chat", checkpoint, "max_new_tokens=5", "--json", "--template", "{message}: ")
    first, second = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert (first["message"], second["message"]) == ("the bird", "stone")
    history = f"the bird: {first['text']}\nstone: "
    assert second["ids"] == generate(Path(checkpoint), history, ["max_new_tokens=5"], log=quiet)["ids"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    code, plain, _ = command(capsys, "chat", checkpoint, "max_new_tokens=5", "--template", "{message}: ")
    assert plain == f"{first['text']}\n{second['text']}\n"
    assert command(capsys, "chat", checkpoint, "--template", "nothing")[0] == 2


def test_bytes_that_are_no_text_are_refused(
    trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = trained("causal_lm")[1]["checkpoint"]
    broken = "the \udcff bird"  # how Python hands on a byte of the command line that is no UTF-8
    for words in (("generate", checkpoint, broken), ("fill-mask", checkpoint, broken)):
        code, _, told = command(capsys, *words)
        assert (code, "is not UTF-8 text (at character 4)" in told) == (65, True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the \xff bird\n"), encoding="utf-8"))
    code, _, told = command(capsys, "chat", checkpoint)
    assert (code, "the input is not UTF-8 text" in told) == (65, True)


# ---- filling in ----


def test_each_mask_has_its_likeliest_fills(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    _, summary = trained("mlm")
    found = fill_mask(Path(summary["checkpoint"]), "the [MASK]ird s[MASK]ngs", top=3)
    assert [len(fills) for fills in found["fills"]] == [3, 3]
    chances = [fill["probability"] for fill in found["fills"][0]]
    assert chances == sorted(chances, reverse=True)
    assert found["filled"] == f"the {found['fills'][0][0]['token']}ird s{found['fills'][1][0]['token']}ngs"
    code, out, _ = command(capsys, "fill-mask", summary["checkpoint"], "the [MASK]ird", "--top", "2")
    assert code == 0
    assert out.splitlines()[1].startswith("[MASK] 1:  ")
    with pytest.raises(UsageError, match=r"wanted a text with \[MASK\]"):
        fill_mask(Path(summary["checkpoint"]), "the bird")
    with pytest.raises(DataError, match="longer than this model takes"):
        fill_mask(Path(summary["checkpoint"]), "[MASK]" * 60)
    with pytest.raises(UsageError, match="wanted a model that fills in tokens; this one classifies"):
        fill_mask(Path(trained("classify")[1]["checkpoint"]), "[MASK]")


def test_dna_is_filled_in(workshop: Workshop) -> None:
    (workshop.folder / "genome.fa").write_text(">one\n" + "acgtTGCA" * 200 + "\n")
    source = f"data.train={{kind: fasta, path: {workshop.folder / 'genome.fa'}}}"
    options = [source, "tokenizer={kind: kmer, k: 1}", "data.too_long=window", "train.budget=3 steps"]
    checkpoint = Path(workshop.train("mlm", options)["checkpoint"])
    found = fill_mask(checkpoint, "acgt[MASK]GCA", top=4)
    assert len(found["filled"]) == 8
    assert found["filled"].startswith("ACGT")
    assert {len(fill["token"]) for fill in found["fills"][0]} <= {1, 5}


# ---- a split of the run ----


def test_the_whole_test_split_is_predicted_once_with_scores(trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("classify")
    output = tmp_path / "test.jsonl"
    done = predict_split(Path(summary["checkpoint"]), split="test", output=output)
    rows = read_lines(output)
    assert len(rows) == done["rows"] == done["count"] == 60
    assert (
        {row["label"] for row in rows} == {"bird", "other"} == {name for row in rows for name in row["probabilities"]}
    )
    right = sum(row["label"] == row["prediction"] for row in rows) / 60
    assert done["accuracy"] == pytest.approx(right)
    assert done["accuracy"] == pytest.approx(evaluate(Path(summary["checkpoint"]), split="test")["accuracy"])
    assert not (tmp_path / "test.submission.tsv").exists()
    with pytest.raises(UsageError, match=r"data\.eval is held out of data\.train; name a file with --input"):
        predict_split(Path(summary["checkpoint"]), split="eval", output=tmp_path / "eval.jsonl")
    with pytest.raises(UsageError, match="`instar evaluate` scores this one"):
        predict_split(Path(trained("mlm")[1]["checkpoint"]), split="test", output=tmp_path / "mlm.jsonl")


@pytest.mark.parametrize("hidden", ["-1", None])
def test_hidden_labels_give_a_submission_file(workshop: Workshop, hidden: str | None, tmp_path: Path) -> None:
    rows = (workshop.folder / "rows.csv").read_text().splitlines()
    test = workshop.folder / "hidden.csv"
    if hidden is None:
        test.write_text("\n".join(["text", *(row.split(",")[0] for row in rows[1:])]) + "\n")
    else:
        test.write_text("\n".join(["text,kind", *(f"{row.split(',')[0]},-1" for row in rows[1:])]) + "\n")
    label = "kind" if hidden else "null"
    options = [f"data.test={{kind: csv, path: {test}, label: {label}}}", "train.budget=2 steps"]
    checkpoint = Path(workshop.train("classify", options)["checkpoint"])
    done = predict_split(checkpoint, split="test", output=tmp_path / "answers.jsonl")
    table = [line.split("\t") for line in (tmp_path / "answers.submission.tsv").read_text().splitlines()]
    assert table[0] == ["index", "prediction"]
    assert [int(index) for index, _ in table[1:]] == list(range(60))
    assert [said for _, said in table[1:]] == [row["prediction"] for row in read_lines(tmp_path / "answers.jsonl")]
    assert "loss" not in done
    assert all("label" not in row for row in read_lines(tmp_path / "answers.jsonl"))
    with pytest.raises(UsageError, match=r"labels of data\.test are withheld.*instar predict --split test"):
        evaluate(checkpoint, split="test")


def test_a_causal_classifier_predicts_as_it_is_scored(workshop: Workshop, trained: Trained, tmp_path: Path) -> None:
    first = trained("causal_lm")[1]["checkpoint"]
    options = [f"model={{from: {first}}}", "tokenizer=null", "train.budget=6 steps"]
    checkpoint = Path(workshop.train("classify", options, "gpt-classify")["checkpoint"])
    done = predict_split(checkpoint, split="test", output=tmp_path / "out.jsonl")
    rows = read_lines(tmp_path / "out.jsonl")
    assert done["accuracy"] == pytest.approx(sum(row["label"] == row["prediction"] for row in rows) / 60)
    nll = [-_log(row["probabilities"][row["label"]]) for row in rows]
    assert done["loss"] == pytest.approx(sum(nll) / 60, rel=1e-4)


def _log(value: float) -> float:
    import math

    return math.log(value)
