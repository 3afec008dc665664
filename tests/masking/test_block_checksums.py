"""A bit that the disk flips in the value files is found, whoever opens it, and before a checkpoint is made of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instar.core.errors import CheckpointError
from instar.masking import block_checksums, store
from instar.masking.block_checksums import BlockChecksums, Check, blocks_of
from instar.masking.memory import Share
from instar.masking.value_arrays import read_header, write_header
from tests.masking.stores import content, opened, reset_store, spans, written
from tests.masking.test_defects import memory

FILES = ["value.bin", "age.bin"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (block_checksums, store):
        monkeypatch.setattr(module, "BLOCK", 64)


def compacted(folder: Path) -> dict[str, int]:
    made, positions = written(folder, range(6), tick=2)
    made.compact(positions, 6)
    return positions


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << position % 8
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_a_value_file_is_found(name: str, tmp_path: Path) -> None:
    compacted(tmp_path / "s")
    opened(tmp_path / "s", tick=2).verify()
    path = tmp_path / "s" / name
    for position in range(0, path.stat().st_size, 7):
        flip(path, position)
        place = f"{position // 64 * 64} to {position // 64 * 64 + 64}"
        with pytest.raises(CheckpointError, match=f"{name}: bytes {place} are"):
            opened(tmp_path / "s", tick=2).verify()
        flip(path, position)
    opened(tmp_path / "s", tick=2).verify()


def test_what_nobody_wrote_has_checksums_too(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    flip(tmp_path / "s" / "value.bin", 399)
    with pytest.raises(CheckpointError, match=r"value.bin: bytes 384 to 448"):
        opened(tmp_path / "s").verify()


def test_holes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else opening the blank store of a genome would read gigabytes of zeros."""
    for module in (block_checksums, store):
        monkeypatch.setattr(module, "BLOCK", 1 << 16)
    made = opened(tmp_path / "s", num_characters=50 << 20, fingerprint="f" * 64)
    with (tmp_path / "s" / "value.bin").open("r+b") as file:
        file.seek(30 << 20)
        file.write(b"x")
    read: list[int] = []
    crc32 = block_checksums.zlib.crc32
    monkeypatch.setattr(block_checksums.zlib, "crc32", lambda data: read.append(any(data)) or crc32(data))
    with pytest.raises(CheckpointError, match=f"bytes {30 << 20:,} to"):
        made.verify()
    assert sum(read) == 2, "the file of CRCs, and the block that holds something"


def test_a_damaged_file_of_seals_is_found(tmp_path: Path) -> None:
    compacted(tmp_path / "s")
    (path,) = (tmp_path / "s").glob("checksums-*.bin")
    flip(path, 5)
    with pytest.raises(CheckpointError, match=r"checksums-.*is damaged or missing"):
        opened(tmp_path / "s", tick=2).verify()
    path.unlink()
    with pytest.raises(CheckpointError, match=r"checksums-.*is damaged or missing"):
        opened(tmp_path / "s", tick=2).verify()


def test_a_fold_renews_what_it_touches_only(tmp_path: Path) -> None:
    positions = compacted(tmp_path / "s")
    before = opened(tmp_path / "s", tick=2)
    checksums = before.checksums()
    assert checksums is not None
    path = tmp_path / "s" / "value.bin"
    flip(path, 0)
    learner = store.StoreLearner(before, 0, positions["0"])
    where = spans((130, 5), (200, 3))
    learner.flush(store.Measured(7, where, np.array([0.1, 0.2], np.float32), np.zeros(2, np.int64)))
    learner.close()
    before.compact({"0": learner.journal.position}, 8)
    after = before.checksums()
    assert after is not None
    changed = np.flatnonzero(checksums.blocks["value"] != after.blocks["value"])
    assert changed.tolist() == [2, 3]
    with pytest.raises(CheckpointError, match=r"value.bin: bytes 0 to 64"):
        opened(tmp_path / "s", tick=2).verify()


def test_a_fold_that_was_broken_off_is_sealed_when_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, positions = written(tmp_path / "s", range(6))
    with monkeypatch.context() as patch:
        patch.setattr(store, "write_checksums", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            made.compact(positions, 6)
    assert read_header(tmp_path / "s").compacting
    whole = opened(tmp_path / "s")
    whole.verify()
    assert not read_header(tmp_path / "s").compacting
    assert len(list((tmp_path / "s").glob("checksums-*.bin"))) == 1
    flip(tmp_path / "s" / "value.bin", 100)
    with pytest.raises(CheckpointError):
        whole.verify()


def test_who_looks_while_a_run_folds_sees_no_damage(tmp_path: Path) -> None:
    positions = compacted(tmp_path / "s")
    looking, compacting = opened(tmp_path / "s", tick=2), opened(tmp_path / "s", tick=2)
    learner = store.StoreLearner(compacting, 0, positions["0"])
    learner.flush(store.Measured(9, spans((3, 4)), np.array([0.5], np.float32), np.zeros(1, np.int64)))
    learner.close()
    compacting.compact({"0": learner.journal.position}, 10)
    looking.verify()


def test_a_store_of_before_there_were_seals_is_read(tmp_path: Path) -> None:
    compacted(tmp_path / "s")
    write_header(tmp_path / "s", replace(read_header(tmp_path / "s"), checksums=""))
    old = opened(tmp_path / "s", tick=2)
    assert old.checksums() is None
    old.verify()
    assert any(content(old)["value"])


def test_a_reset_writes_checksums_of_blank_values(tmp_path: Path) -> None:
    compacted(tmp_path / "s")
    reset_store(tmp_path / "s")
    opened(tmp_path / "s", tick=2).verify()


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), max_size=8), st.sampled_from([1, 2]))
def test_the_blocks_of_spans(pairs: list[tuple[int, int]], item: int) -> None:
    count = 2 * 500 // 64 + 1
    wanted = {position * item // 64 for start, length in pairs for position in range(start, start + length)}
    wanted |= {
        (position * item + item - 1) // 64 for start, length in pairs for position in range(start, start + length)
    }
    assert set(np.flatnonzero(blocks_of(spans(*pairs), item, count)).tolist()) == wanted


# ---- while a run goes on ----


def test_no_checkpoint_is_made_of_damaged_values(tmp_path: Path) -> None:
    """Nobody waits for the check while training; who saves does."""
    made = memory(tmp_path / "s")
    made.sync()
    made.close()
    flip(tmp_path / "s" / "value.bin", 20)
    again: Any = memory(tmp_path / "s")
    with pytest.raises(CheckpointError, match=r"value.bin: bytes 0 to 64"):
        again.sync()
    again.close()
    other = memory(tmp_path / "other")
    other.open(None, 0, Share(is_main=False))
    other.sync()
    other.close()


def test_a_check_that_is_given_up_ends(tmp_path: Path) -> None:
    compacted(tmp_path / "s")
    flip(tmp_path / "s" / "value.bin", 399)
    checksums = opened(tmp_path / "s", tick=2).checksums()
    assert isinstance(checksums, BlockChecksums)
    check = Check(checksums, tmp_path / "s")
    check.give_up()
    seen: list[int] = []
    checksums.verify(tmp_path / "s", lambda: seen.append(1) is None and len(seen) > 2)
    assert len(seen) == 3
