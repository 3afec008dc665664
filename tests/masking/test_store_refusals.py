"""Stores, journals and folders that are refused, and what is told."""

import errno
import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from instar.core.errors import CheckpointError, DataError, DiskError, OutputError
from instar.core.files.checksum import with_checksum, without_checksum
from instar.masking import journal
from instar.masking.store import StoreLearner, StoreLock
from instar.masking.value_arrays import HEADER, read_header
from tests.masking.stores import CHARACTERS, LAYOUT, content, drawn, opened, schema, spans, written


def test_the_store_of_another_corpus_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    with pytest.raises(DataError, match=f"another corpus .*{LAYOUT.fingerprint[:16]}.*{'f' * 16}"):
        opened(tmp_path / "s", fingerprint="f" * 64)


@pytest.mark.parametrize("other", [{"statistic": "nll"}, {"dtype": "float16"}, {"tick": 3}, {"scale": 2.0}])
def test_a_store_that_keeps_something_else_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    opened(tmp_path / "s")
    with pytest.raises(DataError, match=f"something else .*{next(iter(other))}"):
        opened(tmp_path / "s", **other)


def test_a_truncated_value_file_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    with (tmp_path / "s" / "value.bin").open("r+b") as file:
        file.truncate(399)
    with pytest.raises(CheckpointError, match=r"value.bin: has 399 bytes; wanted 400"):
        opened(tmp_path / "s")
    (tmp_path / "s" / "value.bin").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        opened(tmp_path / "s")


def test_a_newer_store_and_a_newer_journal_are_refused(tmp_path: Path) -> None:
    _, positions = written(tmp_path / "s", range(2))
    segment = journal.segments(tmp_path / "s")[0].path
    head = bytearray(segment.read_bytes())
    head[8] = 2
    segment.write_bytes(bytes(head))
    with pytest.raises(CheckpointError, match=r"format version 2; this instar reads version 1"):
        opened(tmp_path / "s").restore(positions, 2)
    header = json.loads((tmp_path / "s" / HEADER).read_text())
    (tmp_path / "s" / HEADER).write_text(json.dumps({**header, "version": 4}))
    with pytest.raises(CheckpointError, match=r"format version 4"):
        opened(tmp_path / "s")


def test_a_store_with_the_names_of_version_2_is_read_and_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    _, positions = written(folder, range(2))
    now = read_header(folder)
    names = {"compacted": "folded", "compacted_step": "folded_step", "checksums": "seals"}
    names |= {"compacting": "folding", "compacting_step": "folding_step"}
    header = without_checksum(json.loads((folder / HEADER).read_text()))
    former = {names.get(key, key): value for key, value in header.items()} | {"version": 2}
    former["seals"] = now.checksums.replace("checksums", "seals")
    (folder / now.checksums).rename(folder / former["seals"])
    (folder / HEADER).write_text(json.dumps(with_checksum(former)))
    assert read_header(folder) == replace(now, checksums=former["seals"])
    again = opened(folder)
    again.verify()
    again.restore(positions, 2)
    again.compact(positions, 2)
    opened(folder).verify()
    assert not list(folder.glob("seals-*"))
    assert json.loads((folder / HEADER).read_text())["version"] == 3


def test_a_header_that_is_none_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    for text in ("{}", "[]", "{", '{"format": "instar-chances", "version": 1}'):
        (tmp_path / "s" / HEADER).write_text(text)
        with pytest.raises(CheckpointError, match=HEADER):
            opened(tmp_path / "s")


def test_every_flipped_bit_of_a_journal_is_found(tmp_path: Path) -> None:
    _, positions = written(tmp_path / "s", range(3))
    segment = journal.segments(tmp_path / "s")[0].path
    whole = segment.read_bytes()
    rng = np.random.default_rng(1)
    for position in [*range(16, 60), *rng.integers(16, len(whole), 60).tolist()]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << int(rng.integers(8))
        segment.write_bytes(bytes(damaged))
        with pytest.raises(CheckpointError, match=r"journal-0-\*.bin: the record at byte .* is damaged"):
            opened(tmp_path / "s").restore(positions, 3)


@pytest.mark.parametrize("kept", [1, 7, 31, 33, 200, -1])
def test_a_torn_last_record_is_dropped_with_a_notice(tmp_path: Path, kept: int) -> None:
    wanted, positions = written(tmp_path / "upto", range(3))
    written(tmp_path / "s", range(4))
    segment = journal.segments(tmp_path / "s")[0].path
    end = 16 + positions["0"] + kept if kept > 0 else segment.stat().st_size - 1
    with segment.open("r+b") as file:
        file.truncate(end)
    store = opened(tmp_path / "s")
    notices = store.latest()
    assert content(store) == content(wanted)
    assert len(notices) == 1
    assert "torn" in notices[0]
    assert journal.cut(tmp_path / "s", 0, positions["0"]) == end - 16 - positions["0"]
    assert store.latest() == []


def test_a_missing_segment_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 1)
    store = opened(tmp_path / "s")
    learner = StoreLearner(store, 0, 0)
    for step in range(4):
        learner.flush(drawn(step))
        learner.sync()
    learner.close()
    journal.segments(tmp_path / "s")[1].path.unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        store.restore({"0": learner.journal.position}, 4)


def test_a_record_outside_the_values_is_refused(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    for position in (-1, CHARACTERS - 1):
        with pytest.raises(CheckpointError, match="outside the arrays"):
            store.change_of(journal.Record(1, spans((position, 2)), b"\1\1"))
    with pytest.raises(CheckpointError, match="another size"):
        store.change_of(journal.Record(1, spans((0, 2)), b"\1"))


def test_two_runs_on_one_store(tmp_path: Path) -> None:
    first = StoreLock(tmp_path / "s")
    with pytest.raises(OutputError, match=r"masking store .* held by process [0-9]+ on "):
        StoreLock(tmp_path / "s")
    first.release()
    StoreLock(tmp_path / "s").release()


@pytest.mark.parametrize(("code", "error"), [(errno.EROFS, OutputError), (errno.ENOSPC, DiskError)])
def test_a_disk_that_takes_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "refused")

    store = opened(tmp_path / "s")
    learner = StoreLearner(store, 0, 0)
    monkeypatch.setattr(journal, "write_all", refuse)
    with pytest.raises(error, match=str(tmp_path)):
        learner.flush(drawn(0))
    learner.close()


def test_a_disk_that_fills_up_leaves_all_that_was_settled(tmp_path: Path) -> None:
    """The file may not grow past a limit: a part of the last record is written, and then no more."""
    store = opened(tmp_path / "s")
    learner = StoreLearner(store, 0, 0)
    for step in range(3):
        store.apply(learner.flush(drawn(step)))
    wanted = content(store)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 + learner.journal.position + 50, before[1]))
    try:
        with pytest.raises(DiskError, match="bytes needed"):
            learner.flush(drawn(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        learner.close()
    back = opened(tmp_path / "s")
    assert len(back.latest()) == 1
    assert content(back) == wanted


def test_a_read_only_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=r"Read-only file system; make the folder writable"):
        opened(tmp_path / "s")


def test_a_store_named_by_form_alone_is_not_made_twice(tmp_path: Path) -> None:
    store, _ = written(tmp_path / "s", range(2))
    again = opened(tmp_path / "s")
    assert again.schema == store.schema
    assert replace(again.schema, checksums="") == schema()
