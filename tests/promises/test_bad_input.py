"""Promise 6: bad input gets one message (place, wanted, came, what to do), the right exit code, and nothing written."""

import gzip
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import break_off, last, left, run

from instar.checkpoint.lock import RunLock
from instar.cli import main
from instar.core.rundir import RunFolder
from instar.data.stream import Stream

RUN = """
model: {config: %(config)s, num_layers: 1, hidden_size: 16, num_heads: 2, max_length: 24, dropout: 0.0}
tokenizer: {kind: character}
task: {kind: %(task)s}
data:
  train: {kind: %(kind)s, path: %(path)s%(more)s}
  max_length: 24
  too_long: window
  cache: %(cache)s
train: {budget: "2 steps", batch_samples: 4, threads: 1}
"""
TASKS = {"mlm": "bert", "causal_lm": "gpt2", "classify": "bert"}


class Bench:
    """Writes a run file and its data, and runs a command line in this process."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture) -> None:
        self.folder, self.capsys = folder, capsys
        self.output = folder / "run"

    def data(self, name: str, content: bytes | str) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run_file(self, kind: str, path: Path, more: str = "", task: str = "mlm") -> Path:
        values = {"kind": kind, "path": path, "more": more, "task": task, "config": TASKS[task]}
        file = self.folder / "run.yaml"
        file.write_text(RUN % (values | {"cache": self.folder / "cache"}))
        return file

    def command(self, *arguments: object) -> tuple[int, str]:
        """Exit code and stderr."""
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main([str(argument) for argument in arguments])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        assert "internal fault" not in said.err
        return leaving.value.code, said.err

    def refused(self, code: int, words: tuple[str, ...], *arguments: object) -> str:
        """The command is refused, its message holds the words, and no run folder is made."""
        found, message = self.command(*arguments, "--output", self.output)
        assert found == code, message
        for word in words:
            assert word in message, message
        assert not self.output.exists()
        assert not list(self.folder.rglob(".tmp-*"))
        return message


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture) -> Bench:
    return Bench(tmp_path, capsys)


LETTERS = "it was the best of times\n\nit was the worst of times\n\n" * 20
TABLE = "text\tlabel\nright\tgood\nwrong\tbad\n" * 1
MANY = "text\tlabel\n" + "right words\tgood\nwrong words\tbad\n" * 10
FASTA = ">one\nACGTACGTTTGACCA\n>two\nACGTTGCAACGT\n"

BAD = {
    # name: (kind, file name, content, more of the source, task, exit code, words of the message)
    "empty": ("text", "a.txt", "", "", "mlm", 65, ("a.txt",)),
    "only blank": ("text", "a.txt", "\n\n  \n", "", "mlm", 65, ("a.txt",)),
    "binary": ("text", "a.txt", b"\x00\xff\xfe\x01" * 99, "", "mlm", 65, ("a.txt:1",)),
    "cut gzip": ("text", "a.txt.gz", gzip.compress(LETTERS.encode())[:-20], "", "mlm", 65, ("a.txt.gz",)),
    "ragged": ("csv", "a.tsv", MANY + "one\ttwo\tthree\n", ", label: label", "classify", 65, ("a.tsv:22",)),
    "no column": ("csv", "a.tsv", MANY, ", text: words, label: label", "classify", 65, ("a.tsv", "words", "text")),
    "no label column": ("csv", "a.tsv", MANY, ", label: lable", "classify", 65, ("lable", "label")),
    "no label named": ("csv", "a.tsv", MANY, "", "classify", 2, ("label",)),
    "empty text": ("csv", "a.tsv", MANY.replace("right words", ""), ", label: label", "classify", 65, ("empty",)),
    "no header": ("fasta", "a.fa", "ACGTACGT\n", "", "mlm", 65, ("a.fa:1", ">")),
    "protein": ("fasta", "a.fa", ">one\nACGT\nMKVLPE\n", "", "mlm", 65, ("a.fa:3",)),
    "twice": ("fasta", "a.fa", FASTA + ">one\nACGT\n", "", "mlm", 65, ("a.fa", "one")),
    "bad json": ("jsonl", "a.jsonl", '{"text": "a b c"}\n{"text": \n', "", "mlm", 65, ("a.jsonl:2",)),
    "json without text": ("jsonl", "a.jsonl", '{"words": "a b c"}\n', "", "mlm", 65, ("a.jsonl:1", "text")),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data(case: str, bench: Bench) -> None:
    kind, name, content, more, task, code, words = BAD[case]
    path = bench.data(name, content)
    if case == "empty text":
        skipped, message = bench.command(
            "train", bench.run_file(kind, path, more, task), "task.labels=[bad, good]", "--output", bench.output
        )
        assert (skipped, code) in ((0, 65), (65, 65)), message  # counted and said, or refused; never silent
        assert "empty" in message
        return
    bench.refused(code, words, "train", bench.run_file(kind, path, more, task))


def test_missing_and_unreadable_files(bench: Bench) -> None:
    bench.refused(66, ("nothing.txt",), "train", bench.run_file("text", bench.folder / "nothing.txt"))
    bench.refused(66, ("none.yaml",), "train", bench.folder / "none.yaml")
    bench.refused(66, (), "train", bench.run_file("text", bench.folder))
    if os.geteuid():
        hidden = bench.data("hidden.txt", LETTERS)
        hidden.chmod(0)
        bench.refused(66, ("hidden.txt",), "train", bench.run_file("text", hidden))


def test_a_label_that_is_not_known(bench: Bench) -> None:
    path = bench.data("a.tsv", MANY + "so so\tugly\n")
    file = bench.run_file("csv", path, ", label: label", "classify")
    bench.refused(65, ("a.tsv:22", "ugly", "good"), "train", file, "task.labels=[good, bad]")


def test_a_line_of_ten_megabytes(bench: Bench) -> None:
    path = bench.data("a.txt", "word " * 2_000_000 + "\n")
    code, message = bench.command("train", bench.run_file("text", path), "--output", bench.output)
    assert code == 0, message


@pytest.mark.parametrize(("policy", "code"), [("error", 65), ("truncate", 0), ("window", 0)])
def test_longer_than_the_model_takes(policy: str, code: int, bench: Bench) -> None:
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    found, message = bench.command("train", file, f"data.too_long={policy}", "--output", bench.output)
    assert found == code, message
    if policy == "error":
        assert "40 of 40" in message
        assert "too_long: window" in message
        assert not bench.output.exists()
    else:
        told = {"truncate": "40 of 40 documents are too long and cut off", "window": "cut into windows (80 samples)"}
        assert message.count(told[policy]) == 1, message


def test_budget_and_unknown_keys_name_the_line(bench: Bench) -> None:
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    for budget in ("0 steps", "0 epochs", "none", "-3 steps", "2.5 steps"):
        bench.refused(2, ("train.budget", "got"), "train", file, f"train.budget={budget}")
    file.write_text(file.read_text().replace("threads: 1", "thraeds: 1").replace("num_layers", "num_layer"))
    message = bench.refused(2, ("run.yaml:10", "did you mean 'threads'", "run.yaml:2", "num_layers"), "train", file)
    assert len(message.strip().splitlines()) == 2  # both faults at once


def test_a_tokenizer_that_does_not_fit(bench: Bench, shrunk: Callable, reference: Callable) -> None:
    model = last(reference("text-characters"))
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    bench.refused(
        65,
        ("73", "281", "tokenizer"),
        "train",
        file,
        f"model={{from: {model}}}",
        "tokenizer={kind: bpe, vocab_size: 300}",
    )


def test_a_length_that_the_model_does_not_have(bench: Bench) -> None:
    bench.refused(
        2,
        ("data.max_length", "24"),
        "train",
        bench.run_file("text", bench.data("a.txt", LETTERS)),
        "data.max_length=99",
    )


def test_a_step_without_targets(bench: Bench) -> None:
    """A window of one token has no next token; alone in a step, it leaves nothing to learn."""
    file = bench.run_file("text", bench.data("a.txt", "abcdefghijklmnopqrstuvwx\n\n" * 9), task="causal_lm")
    code, message = bench.command(
        "train", file, "train.batch_samples=1", "train.budget=1 epochs", "--output", bench.output
    )
    assert code == 65, message
    assert "no next token" in message
    assert bench.command("train", file, "train.batch_samples=8", "--output", bench.folder / "other")[0] == 0


def test_a_folder_of_another_run(bench: Bench) -> None:
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    assert bench.command("train", file, "--output", bench.output)[0] == 0
    before = left(bench.output)
    code, message = bench.command("train", file, "train.optimizer.lr=0.5", "--output", bench.output)
    assert code == 73
    assert all(word in message for word in (str(bench.output), "train.optimizer.lr", "0.5", "--output"))
    assert left(bench.output) == before
    code, message = bench.command("train", file, "--resume", "never", "--output", bench.output)
    assert (code, "--output" in message) == (2, True)
    assert left(bench.output) == before


def test_a_folder_that_is_held(bench: Bench) -> None:
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    bench.output.mkdir()
    with RunLock.acquire(RunFolder(bench.output)):
        code, message = bench.command("train", file, "--output", bench.output)
    assert code == 73
    assert f"process {os.getpid()} on {os.uname().nodename}" in message
    assert bench.command("train", file, "--output", bench.output)[0] == 0  # a holder that is gone does not block


def test_a_second_mistake_does_not_bind(bench: Bench) -> None:
    """A start that failed leaves no run behind, so the mended run file is taken."""
    bench.refused(66, (), "train", bench.run_file("text", bench.folder / "mistyped.txt"))
    bench.output.mkdir()
    assert (
        bench.command("train", bench.run_file("text", bench.folder / "mistyped.txt"), "--output", bench.output)[0] == 66
    )
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    assert bench.command("train", file, "--output", bench.output)[0] == 0


def _damage(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)


def test_a_damaged_checkpoint(bench: Bench, shrunk: Callable, reference: Callable) -> None:
    """Set aside with one warning by `auto`, which goes on from the one before; refused where it is named."""
    small = shrunk("text-characters")
    break_off(small, bench.output, "step_ended", 7)
    assert last(bench.output).name == "checkpoint-6"
    _damage(last(bench.output))
    shutil.copytree(bench.output, bench.folder / "copy")
    resume = ("train", small.file, *small.overrides, "--output")
    copy = bench.folder / "copy"
    code, message = bench.command(*resume, copy, "--resume", copy / "checkpoint-6")
    assert code == 65
    assert "model.safetensors" in message
    code, message = bench.command(*resume, bench.output)
    assert code == 0
    assert message.replace("\n", "").count("quarantine") == 1
    assert (bench.output / "quarantine" / "checkpoint-6").is_dir()
    assert left(bench.output) == left(reference("text-characters"))
    code, message = bench.command("evaluate", copy / "checkpoint-6")
    assert (code, "model.safetensors" in message) == (65, True)


def test_a_full_disk_while_saving(bench: Bench, shrunk: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last save fails: the checkpoint before is whole, the message says so, and the same command goes on."""
    small = shrunk("text-characters")
    break_off(small, bench.output, "step_ended", 5)
    before = {path.name: left(bench.output)[path.name] for path in last(bench.output).glob("*.safetensors")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    taken = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, hard))
        code, message = bench.command("train", small.file, *small.overrides, "--output", bench.output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, taken)
    assert code == 74, message
    flat = " ".join(message.split())
    assert all(word in flat for word in ("bytes free", "free some space", "checkpoint-4 is whole")), message
    assert {name: left(bench.output)[name] for name in before} == before
    assert not list(bench.output.glob(".tmp-*"))
    whole = bench.folder / "whole"
    run(small, whole)
    run(small, bench.output)
    assert left(bench.output) == left(whole)


def test_a_folder_that_cannot_be_written(bench: Bench) -> None:
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    taken = bench.data("taken", "a file")
    code, message = bench.command("train", file, "--output", taken / "run")
    assert (code, str(taken) in message) == (73, True)


def test_other_verbs_refuse_alike(bench: Bench) -> None:
    for verb in (("evaluate",), ("predict", "--input", "x", "--output", "y"), ("report",), ("lineage",)):
        code, message = bench.command(verb[0], bench.folder / "nothing", *verb[1:])
        assert code == 66, (verb, message)
        assert "nothing" in message


def test_the_command_as_a_process(bench: Bench) -> None:
    """Once for real: exit code, one message on stderr, nothing on stdout."""
    file = bench.run_file("text", bench.folder / "nothing.txt")
    command = [sys.executable, "-c", "from instar.cli import main; main()", "train", str(file)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=bench.folder, timeout=900, check=False)
    assert (found.returncode, found.stdout) == (66, "")
    assert "nothing.txt" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (bench.folder / "runs").exists()


@pytest.mark.parametrize("name", ["nothing", "stream"])
def test_an_internal_fault_is_called_one(name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise json.JSONDecodeError("odd", "", 0) if name == "stream" else AssertionError

    monkeypatch.setattr(Stream, "order", broken)
    file = bench.run_file("text", bench.data("a.txt", LETTERS))
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(file), "--output", str(bench.output)])
    assert leaving.value.code == 70
    assert "internal fault" in bench.capsys.readouterr().err
