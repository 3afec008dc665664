"""A full disk: the error says what is needed, what is free and what is whole; nothing half-written stays."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from instar.checkpoint.protocol import newest, publish, verify
from instar.checkpoint.tensors import write_tensors
from instar.core.errors import DiskError
from instar.core.files.json_files import read_json, write_json
from instar.core.rundir import RunFolder
from tests.disks import file_limit, mounted

Save = Callable[[int], Path]
Names = Callable[[RunFolder], list[str]]


def _write(folder: Path) -> None:
    write_json(folder / "state.json", {"step": 2, "text": "x" * 100})
    write_tensors(folder / "small.safetensors", {"a": torch.zeros(100)})
    write_tensors(folder / "model.safetensors", {"a": torch.zeros(3000)})
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocabulary.txt").write_text("word\n" * 5000)


@pytest.mark.parametrize("limit", [0, 50, 300, 5_000, 20_000])
def test_a_file_that_may_not_grow(run: RunFolder, save: Save, names: Names, limit: int) -> None:
    save(1)
    with file_limit(limit), pytest.raises(DiskError) as raised:
        publish(run.checkpoint(2), _write)
    text = str(raised.value)
    assert "bytes needed" in text
    assert "bytes free" in text
    assert "File too large" in text
    assert "checkpoint-1 is whole" in text
    assert str(run.checkpoint(2)) in text
    assert names(run) == ["checkpoint-1"]
    verify(run.checkpoint(1))
    publish(run.checkpoint(2), _write)
    assert newest(run) == run.checkpoint(2)


def test_the_manifest_that_may_not_grow(run: RunFolder, names: Names) -> None:
    def write(folder: Path) -> None:
        for number in range(20):
            (folder / f"{number}").write_text("x" * 50)

    with file_limit(200), pytest.raises(DiskError, match="there is no checkpoint before it"):
        publish(run.checkpoint(2), write)
    assert names(run) == []


def _failure(run: RunFolder) -> str:
    try:
        publish(run.checkpoint(2), _write)
    except DiskError as error:
        return str(error)
    return ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    with mounted(tmp_path / "disk", "256k") as place:
        yield place


def test_a_disk_that_fills_up_at_each_place_of_the_save(small_disk: Path, names: Names) -> None:
    run = RunFolder(small_disk / "run")
    publish(run.checkpoint(1), _write)
    failed = []
    for free_pages in range(24):
        filler = small_disk / "filler"
        status = os.statvfs(small_disk)
        filler.write_bytes(b"x" * (status.f_bavail - free_pages) * status.f_bsize)
        text = _failure(run)
        if text:
            failed.append(free_pages)
            assert "No space left on device" in text
            assert "checkpoint-1 is whole" in text
            assert names(run) == ["checkpoint-1"]
            assert newest(run) == run.checkpoint(1)
        else:
            assert newest(run) == run.checkpoint(2)
            run.checkpoint(2).rename(small_disk / "done")
            subprocess.run(["rm", "-r", str(small_disk / "done")], check=True)
        filler.unlink()
    assert failed == list(range(len(failed)))
    assert 8 < len(failed) < 24


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("place", ["mkdir", "fsync", "rename"])
def test_every_disk_error_at_every_kind_of_operation(
    run: RunFolder, save: Save, names: Names, code: int, place: str
) -> None:
    save(1)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, place, fail)
        with pytest.raises(DiskError, match="checkpoint-1 is whole"):
            save(2)
    assert names(run) == ["checkpoint-1"]


def test_small_files_keep_their_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": 1})
    with file_limit(5), pytest.raises(DiskError, match="bytes needed"):
        write_json(path, {"a": list(range(100))})
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
