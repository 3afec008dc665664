"""Exit codes, streams, and what the command costs before a verb runs."""

import errno
import os
import signal
import subprocess
import sys

import pytest

import instar.cli
from instar.core.errors import ConfigError, DataError, DiskError, InputMissingError, NonFiniteError, OutputError
from tests.processes import start

INSTAR = [sys.executable, "-c", "from instar.cli import main; main()"]


def run(*arguments: str, **keywords) -> subprocess.CompletedProcess:
    return subprocess.run([*INSTAR, *arguments], capture_output=True, text=True, check=False, timeout=900, **keywords)


def exit_code(monkeypatch, error: BaseException, *arguments: str) -> int:
    def verb(*_, **__):
        raise error

    monkeypatch.setattr("instar.cli.app.app", verb)
    with pytest.raises(SystemExit) as left:
        instar.cli.main(arguments)
    return left.value.code


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigError(["run.yaml:3: a: wanted b", "run.yaml:4: c: wanted d"]), 2, "run.yaml:3: a: wanted b\nrun.yaml:4"),
        (DataError("ragged"), 65, "ragged"),
        (InputMissingError("gone"), 66, "gone"),
        (NonFiniteError("nan"), 70, "nan"),
        (OutputError("held"), 73, "held"),
        (DiskError("full"), 74, "full"),
        (OSError(errno.ENOSPC, "No space left on device"), 74, "bytes free"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 71, "out of memory"),
        (RecursionError("deep\nvery"), 70, "internal fault: RecursionError: deep very"),
        (DataError("a\x1b[2Jb"), 65, "a?[2Jb"),
    ],
)
def test_every_error_has_its_code_and_no_traceback(monkeypatch, capsys, error, code, words):
    assert exit_code(monkeypatch, error) == code
    said = capsys.readouterr()
    assert words in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_debug_shows_where(monkeypatch):
    def verb(arguments, **_):
        assert arguments == ["train"]
        raise DataError("ragged")

    monkeypatch.setattr("instar.cli.app.app", verb)
    with pytest.raises(DataError):
        instar.cli.main(["train", "--debug"])


def test_usage():
    assert run("--version").stdout == f"instar {instar.__version__}\n"
    wrong = run("trian")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "train" in wrong.stderr
    missing = run("predict", "x")
    assert missing.returncode == 2
    assert "--output" in missing.stderr
    unset = run("train", "run.yaml", "--output", "")
    assert unset.returncode == 2
    assert "empty text" in unset.stderr


def test_every_verb_has_help_with_examples():
    from instar.cli.app import VERBS

    listed = run("--help", env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200"}).stdout
    assert "\x1b" not in listed
    for verb in VERBS:
        name = verb.__name__.replace("_", "-")
        assert name in listed
        assert verb.examples, verb
        assert all(line.startswith(f"instar {name}") for line in verb.examples)
        assert len(verb.__code__.co_varnames[: verb.__code__.co_argcount]) <= 7


WRITES = "import sys, instar.cli.app; instar.cli.app.app = lambda *a, **k: sys.stdout.write('x'); instar.cli.main([])"


@pytest.mark.parametrize("command", [[*INSTAR, "--help"], [sys.executable, "-c", WRITES]])
def test_a_closed_pipe_is_silent(command, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    command.stdout.close()
    assert command.stderr.read() == b""
    command.stderr.close()
    command.wait(timeout=900)


def test_an_interrupt_leaves_with_130():
    works = "lambda *a, **k: (print(1, flush=True), time.sleep(100))"
    code = f"import instar.cli.app, time; instar.cli.app.app = {works}; instar.cli.main([])"
    command = start([sys.executable, "-c", code])
    assert command.stdout.readline() == b"1\n"
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=900)
    assert (command.returncode, out) == (130, b"")
    assert b"Traceback" not in err


@pytest.mark.parametrize(("limit", "code"), [(60, "import instar"), (500, "from instar.cli import main; main(['-h'])")])
def test_starting_is_cheap(limit, code):
    """Counted in modules beyond a bare interpreter's: that is what a start costs, and no load changes their number."""
    counted = f"""
import sys
before = set(sys.modules)
try:
    {code}
finally:
    print(len(set(sys.modules) - before), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", counted], capture_output=True, text=True, check=True)
    assert 0 < int(done.stderr) <= limit


def test_nothing_heavy_is_imported_for_help():
    heavy = "torch transformers datasets pydantic numpy matplotlib sklearn pyarrow ruamel.yaml"
    code = f"import sys, instar.cli.app; sys.exit(' '.join(n for n in {heavy.split()!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_no_colour_wins_over_a_forced_one():
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    forced = run("--help", env=plain | {"FORCE_COLOR": "1"})
    assert "\x1b[" in forced.stdout
    both = run("--help", env=plain | {"FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert both.returncode == 0
    assert "\x1b[" not in both.stdout + both.stderr
