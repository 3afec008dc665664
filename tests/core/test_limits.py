"""What the system refuses has a status and a message of its own, whoever wrapped it."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from instar.checkpoint.protocol import newest, publish
from instar.core import limits
from instar.core.errors import DataError, DiskError, InputMissingError, InstarError, OutputError, ResourceError
from instar.core.limits import named
from instar.core.rundir import RunFolder
from instar.data.document import Document
from instar.data.encode import chunks
from instar.report.writing import write_file
from instar.trainer.callbacks.lines import Lines
from instar.use.writing import write_rows
from tests.disks import file_limit


def system(code: int, path: Path | str | None = None) -> OSError:
    return OSError(code, os.strerror(code), *([] if path is None else [str(path)]))


def raised_by(cause: BaseException, wrapped: InstarError | None = None) -> BaseException:
    if wrapped is not None:
        wrapped.__cause__ = cause
    return cause if wrapped is None else wrapped


@pytest.mark.parametrize("wrapped", [None, DataError("x: damaged"), OutputError("x: cannot be written")])
@pytest.mark.parametrize(
    "cause", [system(errno.EMFILE, "x"), ImportError("x.so: Too many open files"), Exception("(os error 24)")]
)
def test_too_many_open_files(cause: BaseException, wrapped: InstarError | None) -> None:
    found = named(raised_by(cause, wrapped))
    assert isinstance(found, ResourceError)
    assert found.exit_code == 71
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert "ulimit -n" in str(found)
    assert f"RLIMIT_NOFILE is {soft:,}" in str(found)
    assert "fs.file-max" in str(named(system(errno.ENFILE)))


@pytest.mark.parametrize(
    "cause",
    [MemoryError("Unable to allocate 3 GiB"), system(errno.ENOMEM), RuntimeError("std::bad_alloc"),
     RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
     ImportError("x.so: failed to map segment from shared object")],
)  # fmt: skip
def test_too_little_memory_says_what_was_done(cause: BaseException) -> None:
    assert "out of memory while loading the libraries" in str(named(cause))

    def documents() -> Iterator[Document]:
        raise cause
        yield

    with pytest.raises(type(cause)) as raised:
        list(chunks(documents()))
    found = named(raised.value)
    assert isinstance(found, ResourceError)
    assert "out of memory while reading and tokenizing the data" in str(found)
    assert "make smaller: data.processes" in str(found)


@pytest.mark.parametrize("error", [RuntimeError("dictionary changed"), DataError("is not UTF-8"), ValueError("x")])
def test_other_errors_are_left_alone(error: Exception) -> None:
    assert named(raised_by(error)) is None


def test_rights_name_the_path_and_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.txt"
    path.write_text("x")
    refused: set[tuple[Path, int]] = set()
    monkeypatch.setattr(limits, "_may", lambda place, mode: (place, mode) not in refused)
    error = system(errno.EACCES, path)

    def told() -> tuple[type, str]:
        found = named(raised_by(error))
        return type(found), str(found)

    refused = {(path, os.R_OK)}
    kind, text = told()
    assert kind is InputMissingError
    assert f"{path}: permission denied: it may not be read (it belongs to " in text
    assert f"({os.getuid()}), rw" in text
    refused = {(tmp_path, os.X_OK)}
    assert f"the folder {tmp_path} may not be entered" in told()[1]
    refused = {(path, os.W_OK)}
    assert told()[0] is OutputError
    error = system(errno.EROFS, path)
    assert "read-only" in told()[1]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM, errno.EACCES])
@pytest.mark.parametrize("call", ["scandir", "open"])
def test_a_checkpoint_that_cannot_be_looked_at_is_not_called_damaged(
    code: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    publish(run.checkpoint(1), lambda folder: (folder / "a").write_text("x") and None)
    before, own = os.open if call == "open" else os.scandir, str(run.checkpoint(1))

    def refuse(path: object, *arguments: object, **options: object) -> object:
        if str(path).startswith(own):
            raise system(code, own)
        return before(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises((ResourceError, InputMissingError, OutputError)):
            newest(run)
    assert newest(run) == run.checkpoint(1)


def rows(path: Path) -> None:
    list(write_rows(path, [{"a": "x" * 5000}]))


def lines(path: Path) -> None:
    Lines(path).append({"a": "x" * 5000})


@pytest.mark.parametrize("write", [rows, lines, lambda path: write_file(path, b"x" * 5000)])
def test_a_full_disk_is_told_with_path_and_bytes(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    with file_limit(100), pytest.raises(DiskError, match=rf"{path}: File too large: .*[\d,]+ bytes free"):
        write(path)
    assert {entry.name for entry in tmp_path.iterdir()} <= ({path.name} if write is lines else set())
