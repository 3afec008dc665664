"""A store on a disk that is full: refused with the bytes, never a mapped page that kills the process."""

import errno
import os
import re
import shutil
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from instar.cli import main
from instar.core.errors import DiskError
from instar.core.files.disk import reserve, write_all
from instar.masking import array_writer
from instar.masking.array_writer import ArrayWriter
from instar.masking.value_arrays import HEADER, ValueArrays
from tests.disks import file_limit, mounted
from tests.masking import stores
from tests.masking.stores import content, opened, reset_store, schema, written

BIG = 3_000_000
RUN = """
model: {config: bert, num_layers: 1, hidden_size: 32, num_heads: 2}
tokenizer: {kind: character}
task: {kind: mlm, rate: 0.3, masking: {kind: adaptive}}
data: {train: {kind: text, path: "embedded:speeches.txt.gz"}, eval: {split: 0.02}, max_length: 32, too_long: truncate}
train: {budget: 2 steps, batch_tokens: 256, save_every: 2 steps, eval_every: 2 steps}
"""


def refuse(code: int):
    def refused(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return refused


@pytest.mark.parametrize("code", [None, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
@pytest.mark.parametrize("size", [0, 5, (1 << 20) + 7])
def test_room_is_reserved_on_every_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None, size: int
) -> None:
    if code is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse(code))
    with (tmp_path / "file").open("wb", buffering=0) as file:
        reserve(file, size)
        assert file.tell() == size, "zeros were written"
    assert (tmp_path / "file").read_bytes() == bytes(size)


def test_the_room_of_a_store_is_its_own(tmp_path: Path) -> None:
    opened(tmp_path / "s", num_characters=BIG, tick=3)
    for name, size in (("value", BIG), ("age", 2 * BIG)):
        status = (tmp_path / "s" / f"{name}.bin").stat()
        assert (status.st_size, status.st_blocks * 512 >= size) == (size, True)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_store_that_finds_no_room_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_there: object
) -> None:
    folder = tmp_path / "s"
    if is_there:
        folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse(code))
        with pytest.raises(DiskError, match=rf"{folder}: .*: {3 * BIG:,} bytes needed, [\d,]+ bytes free"):
            opened(folder, num_characters=BIG, tick=3)
    assert [path for path in tmp_path.rglob("*") if path != folder] == []
    assert folder.exists() == is_there
    opened(folder).verify()


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with file_limit(BIG - 1), pytest.raises(DiskError, match=f"File too large: {BIG:,} bytes needed"):
        opened(tmp_path / "s", num_characters=BIG)
    assert not (tmp_path / "s").exists()


def test_a_store_that_cannot_begin_again_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, positions = written(tmp_path / "s", range(4))
    store.compact(positions, 4)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
        with pytest.raises(DiskError):
            reset_store(tmp_path / "s")
    assert not (tmp_path / "s" / HEADER).exists()
    again = opened(tmp_path / "s")
    again.verify()
    assert not any(any(part) for part in content(again).values())


def test_a_store_larger_than_the_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "1m") as disk:
        with pytest.raises(DiskError, match=f"No space left on device: {BIG:,} bytes needed"):
            opened(disk / "s", num_characters=BIG)
        assert list(disk.iterdir()) == []


@pytest.mark.parametrize("room", [0, 1, 4])
def test_a_fold_that_finds_no_room_is_an_error_and_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A file system that copies on write needs room at the write, though the file has its size."""
    monkeypatch.setattr(stores, "CHARACTERS", 40_000)
    kept = {"num_characters": 40_000}
    expected, positions = written(tmp_path / "other", range(6), **kept)
    expected.compact(positions, 6)
    store, positions = written(tmp_path / "s", range(6), **kept)
    calls = iter(range(100))

    def fills_up(file: IO[bytes], data: memoryview) -> None:
        if next(calls) >= room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(array_writer, "_MOST_PAGES", 1)
        patch.setattr(array_writer, "write_all", fills_up)
        with pytest.raises(DiskError, match=rf"{tmp_path / 's'}: No space left on device"):
            store.compact(positions, 6)
    again = opened(tmp_path / "s", **kept)  # finishes the compact
    again.verify()
    assert content(again) == content(opened(tmp_path / "other", **kept))


@pytest.mark.parametrize("most", [1, 1 << 14])
def test_a_writer_leaves_what_a_view_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("instar.masking.array_writer._MOST_PAGES", most)
    kept = schema(num_characters=20_000, tick=3)
    ValueArrays.create(tmp_path / "s", kept)
    rng, view = np.random.default_rng(0), ValueArrays(tmp_path / "s", kept)
    with ArrayWriter(tmp_path / "s", kept) as writer:
        for number in range(20):
            index = rng.integers(0, 20_000, 50)
            for put in (view.put, writer.put):
                put("value", index, np.full(50, number + 1, np.uint8))
                put("age", index, number)
    again = ValueArrays(tmp_path / "s", kept)
    for name in ("value", "age"):
        assert (again.arrays[name] == view.arrays[name]).all()
    with ArrayWriter(tmp_path / "s", kept) as writer:
        writer.put_from("age", 19_000, np.arange(1000))
    assert (ValueArrays(tmp_path / "s", kept).arrays["age"][19_000:] == np.arange(1000)).all()


def test_train_on_a_full_disk_ends_with_74_and_leaves_no_run_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(RUN)
    line = ["train", str(tmp_path / "run.yaml"), f"data.cache={tmp_path / 'c'}", "--output", str(tmp_path / "run")]

    def told() -> str:
        with pytest.raises(SystemExit) as left:
            main(line)
        assert left.value.code == 74
        return capsys.readouterr().err

    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(tmp_path)
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1234))
        assert re.search(rf"{tmp_path}/run/masking: .* [\d,]+ bytes needed, 1,234 bytes free", told())
    assert not (tmp_path / "run").exists()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
        assert re.search(rf"{tmp_path}/run/masking: .* [\d,]+ bytes needed, [\d,]+ bytes free", told())
    assert not list((tmp_path / "run").rglob("*.bin"))
    with pytest.raises(SystemExit) as left:
        main(line)
    assert left.value.code == 0
