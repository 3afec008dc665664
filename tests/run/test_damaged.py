"""A damaged checkpoint is told at once, and nothing is computed from what it says."""

import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from instar.cli import main
from instar.data import cache
from tests.run.test_plain_files import RUN


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "run.yaml").write_text(RUN)
    with pytest.raises(SystemExit) as left:
        main(["train", str(folder / "run.yaml"), f"data.cache={folder / 'cache'}", "--output", str(folder / "run")])
    assert left.value.code == 0
    return folder / "run"


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = ("instar_tokenizer.json", "tokenizer.json", "state.json", "MANIFEST.json", "run.yaml")


@pytest.mark.parametrize(("name", "harm"), [(name, harm) for name in FILES for harm in (remove, flip)])
def test_every_verb_says_it_and_reads_no_corpus(
    request: pytest.FixtureRequest, name: str, harm: Callable[[Path], None], trained: Path, tmp_path: Path
) -> None:
    monkeypatch, capsys = request.getfixturevalue("monkeypatch"), request.getfixturevalue("capsys")
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    harm(run / "checkpoint-2" / name)

    def read(*_: object, **__: object) -> None:
        raise AssertionError("the corpus is read again")

    monkeypatch.setattr(cache._Build, "run", read)
    codes, told = {}, {}
    for line in (["status", str(run), "--json"], ["report", str(run)], ["evaluate", str(run / "checkpoint-2")]):
        with pytest.raises(SystemExit) as left:
            main(line)
        codes[line[0]], told[line[0]] = left.value.code, capsys.readouterr()
    assert (codes["status"], codes["report"]) == (0, 0)
    assert codes["evaluate"] in (2, 65, 66)
    status = json.loads(told["status"].out)
    assert "checkpoint" not in status
    said = "SHA-256 differs" if (name, harm) == ("MANIFEST.json", flip) else name  # the manifest accuses another file
    assert said in status["damaged"][0]
    assert said in told["report"].err
    assert "damaged or not finished" in (run / "report.html").read_text()


def _next_number() -> int:
    """The number that the next open file will have."""
    number = os.dup(0)
    os.close(number)
    return number


@pytest.mark.parametrize("more", [0, 2, 5])
def test_few_open_files_end_with_a_status_of_their_own(
    more: int, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for verb, place in (
        ("status", run),
        ("report", run),
        ("evaluate", run / "checkpoint-2"),
        ("train", run / "run.yaml"),
    ):
        limit = _next_number() + more
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        try:
            with pytest.raises(SystemExit) as left:
                main([verb, str(place), *(["--output", str(run)] if verb == "train" else [])])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        told = capsys.readouterr().err
        assert left.value.code in (0, 71), told
        assert left.value.code == 0 or f"RLIMIT_NOFILE is {limit:,}" in told
        assert more or left.value.code == 71
    assert not (run / "quarantine").exists()
