"""The demo at a reduced size: what it claims is so, and it never touches what is not its own."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from instar.cli import main
from instar.core.errors import OutputError
from instar.core.rundir import RunFolder
from instar.demo.curve import compare
from instar.demo.folder import claim
from tests.processes import start


@pytest.mark.slow
def test_the_demo_shows_what_it_says(tmp_path, capsys):
    from instar.demo import demo

    folder = tmp_path / "demo"
    measured = demo(folder, small=True)
    out = capsys.readouterr().out

    letters = measured.letters
    assert letters.before < letters.floor
    assert 0.15 < letters.floor < 0.2, "a space is every sixth character of English"
    assert letters.after > 1.5 * letters.floor
    assert letters.comparison.is_identical
    assert letters.comparison.num_lines > 40
    splice = measured.splice
    assert splice.fine_tuned > splice.floors.majority + 0.1
    assert splice.fine_tuned > splice.floors.three_mers
    assert splice.genome > splice.genome_floor
    speech = measured.speech
    assert speech.after < speech.before - 0.3
    assert 2.5 < speech.gzip_primed < speech.gzip < 4

    for number in range(1, 9):
        assert f"({number}) " in out
    for share in (letters.floor, letters.before, letters.after, splice.fine_tuned, splice.floors.three_mers):
        assert f"{share:.1%}" in out
    assert "identical to the uninterrupted one? yes" in out
    assert "instar train mine.yaml" in out
    assert "\x1b" not in out, "a log has no colours"

    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert letters.comparison.digest in page
    assert (folder / "letters" / "report.html").is_file()
    log = (folder / "logs" / "letters.log").read_text(encoding="utf-8")
    assert "resumed at step" in log

    _the_comparison_is_no_formality(folder)
    _a_finished_demo_is_replaced(folder)


def _the_comparison_is_no_formality(folder: Path) -> None:
    """One digit of one line, then one bit of the weights: each is found."""
    letters, twin = RunFolder(folder / "letters"), RunFolder(folder / "letters-twin")
    whole = twin.metrics.read_text()
    first, _, rest = whole.partition("\n")
    record = json.loads(first)
    twin.metrics.write_text(json.dumps(record | {"seconds": 1e9}) + "\n" + rest)
    assert compare(letters, twin).is_identical, "times may differ"
    twin.metrics.write_text(json.dumps(record | {"loss": record["loss"] * (1 + 1e-15)}) + "\n" + rest)
    assert compare(letters, twin).differences == ("metrics.jsonl:1 differs in loss",)
    twin.metrics.write_text(whole)
    weights = twin.checkpoints()[-1][1] / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert compare(letters, twin).differences == ("model.safetensors has another SHA-256",)


def _a_finished_demo_is_replaced(folder: Path) -> None:
    (folder / "mine.txt").write_text("precious")
    _, found = claim(folder, "another plan")
    assert found == "replaced"
    assert (folder / "mine.txt").read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir()) == ["demo.json", "logs", "mine.txt"]


def test_a_folder_that_is_no_demos_is_left_alone(tmp_path, capsys):
    held = tmp_path / "work"
    (held / "letters").mkdir(parents=True)
    (held / "letters" / "novel.txt").write_text("precious")
    with pytest.raises(SystemExit) as left:
        main(["demo", "--output", str(held)])
    assert left.value.code == 73
    assert "not the folder of a demo" in capsys.readouterr().err
    assert (held / "letters" / "novel.txt").read_text() == "precious"
    (held / "demo.json").write_text("{}")
    with pytest.raises(OutputError):
        claim(held, "plan")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        claim(tmp_path / "file", "plan")


def test_an_interrupted_demo_goes_on_and_another_plan_starts_over(tmp_path):
    folder, found = claim(tmp_path / "demo", "plan")
    assert found == "new"
    folder.note(killed=7)
    (folder / "letters").mkdir()
    again, found = claim(tmp_path / "demo", "plan")
    assert (found, again.notes["killed"], (again / "letters").is_dir()) == ("resumed", 7, True)
    other, found = claim(tmp_path / "demo", "another plan")
    assert (found, other.notes, (other / "letters").exists()) == ("replaced", {"plan": "another plan"}, False)
    other.note(done=True)
    assert claim(tmp_path / "demo", "another plan")[1] == "replaced"


@pytest.mark.long
def test_an_interrupt_leaves_no_process_behind(tmp_path):
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "instar.cli", "demo", "--small", "--output", str(folder)]
    demo = start(command, text=True)
    try:
        while not (folder / "letters" / "metrics.jsonl").is_file() and demo.poll() is None:
            time.sleep(0.1)
        demo.send_signal(signal.SIGINT)
        _, said = demo.communicate(timeout=900)
    finally:
        demo.kill()
    assert demo.returncode == 130, said
    assert "the same command resumes" in said
    assert "Traceback" not in said
    assert not _processes_with(str(folder))
    assert claim(folder, json.loads((folder / "demo.json").read_text())["plan"])[1] == "resumed"


def _processes_with(word: str) -> list[str]:
    """Command lines of living processes that hold a word, where the system tells (Linux)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [command] if word in command and "pytest" not in command else []
    return found
