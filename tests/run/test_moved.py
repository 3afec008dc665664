"""A run is known by the content that it reads: what was moved or renamed goes on, what was exchanged does not."""

import shutil
from pathlib import Path

import pytest

from instar.config.load import load
from instar.core.errors import CheckpointError, OutputError
from instar.core.files.json_files import read_json, write_json
from instar.run.config import RunConfig
from instar.run.folder import must_go_on_from, read_run_file
from instar.run.identity import run_hash
from tests.run.conftest import Workshop

SHORT = ("train.eval_every=null",)


def test_data_and_folders_that_were_moved_resume_and_others_do_not(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workshop.folder
    lines = folder / "lines.txt"
    first = workshop.train("mlm", [*SHORT, "train.budget=1 steps"], "first")["checkpoint"]
    shutil.copytree(first, folder / "model")
    shutil.copytree(first, folder / "words")

    def train(steps: int, text: str, model: str, words: str) -> str:
        capsys.readouterr()
        places = [
            f"data.train.path={folder / text}",
            f"data.eval={{kind: text, path: {folder / text}, documents: line}}",
            f"model={{from: {folder / model}}}",
            f"tokenizer={{kind: from_folder, from: {folder / words}}}",
        ]
        workshop.train("mlm", [*SHORT, *places, f"train.budget={steps} steps"], "run")
        return capsys.readouterr().err

    train(1, "lines.txt", "model", "words")
    lines.rename(folder / "text.txt")
    (folder / "model").rename(folder / "weights")
    (folder / "words").rename(folder / "tokens")
    said = train(2, "text.txt", "weights", "tokens")
    for key, name in (("data.train.path", "text.txt"), ("data.eval.path", "text.txt"), ("model.from", "weights")):
        assert said.count(f"{key} was ") == 1
        assert f"{name}': the content is the same" in said
    assert "tokenizer.from was" in said
    assert read_json(folder / "run" / "checkpoint-2" / "state.json")["step"] == 2
    assert "was" not in train(3, "text.txt", "weights", "tokens"), "said once"

    (folder / "other.txt").write_text((folder / "text.txt").read_text().replace("river", "lake"))
    other = workshop.train(
        "mlm", [*SHORT, f"data.train.path={folder / 'text.txt'}", "seed=8", "train.budget=1 steps"], "o"
    )
    before = sorted(path.name for path in (folder / "run").iterdir())
    for places in (
        ("other.txt", "weights", "tokens"),
        ("text.txt", str(Path(other["checkpoint"]).relative_to(folder)), "tokens"),
    ):
        with pytest.raises(OutputError, match=r"holds another run .*choose another --output, and this one stays"):
            train(4, *places)
    assert sorted(path.name for path in (folder / "run").iterdir()) == before


def test_a_checkpoint_without_fingerprints_of_its_content_wants_the_same_places(workshop: Workshop) -> None:
    checkpoint = Path(workshop.train("mlm", [*SHORT, "train.budget=1 steps"])["checkpoint"])
    copy = shutil.copy(workshop.folder / "lines.txt", workshop.folder / "copy.txt")
    config = load(workshop.run_file("mlm"), RunConfig, [*SHORT, f"data.train.path={copy}"]).value
    assert len(must_go_on_from(checkpoint, config)) == 1
    state = read_json(checkpoint / "state.json")
    del state["content"]
    write_json(checkpoint / "state.json", state)
    with pytest.raises(CheckpointError, match=r"is of another run \(data\.train\.path was"):
        must_go_on_from(checkpoint, config)


def test_a_written_run_file_holds_whatever_its_paths_name(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workshop.run_file("mlm")
    text = path.read_text()
    written = str(workshop.folder / "lines.txt")
    monkeypatch.setenv("HOME", str(workshop.folder))
    monkeypatch.setenv("HERE", str(workshop.folder))
    hashes = []
    for other in (written, "~/lines.txt", "$HERE/lines.txt", "~nobody-of-this-name/x", "$NOT_SET_HERE/x"):
        path.write_text(text.replace(written, other))
        hashes.append(run_hash(read_run_file(path)))
    assert len(set(hashes)) == 1, "where content lies is no part of what a run is"
