"""Checkpoints come whole, stay whole, and go by step number."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instar.checkpoint import manifest, protocol
from instar.checkpoint.protocol import clean, discard, newest, publish, rotate, set_aside_after, verify
from instar.core.errors import CheckpointError, DiskError, OutputError
from instar.core.files.json_files import read_json
from instar.core.files.temporary import machine, unique_name
from instar.core.rundir import RunFolder

Save = Callable[[int], Path]
Names = Callable[[RunFolder], list[str]]


def test_a_published_checkpoint_verifies_and_lists_every_file(run: RunFolder, save: Save) -> None:
    files = verify(save(10))["files"]
    assert sorted(files) == ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer/vocabulary.txt"]
    assert files["tokenizer/vocabulary.txt"]["size"] == 11


def test_files_are_readable_as_the_umask_says(save: Save) -> None:
    folder = save(1)
    modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
    assert modes == {folder.stat().st_mode & 0o666}


def test_each_file_is_synced_before_the_rename_and_the_names_after(
    run: RunFolder, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, rename = os.fsync, os.rename

    def heard_sync(descriptor: int) -> None:
        events.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name.split("-")[0])
        sync(descriptor)

    def heard_rename(source: Path, target: Path) -> None:
        events.append(f"rename {Path(target).name}")
        rename(source, target)

    run.path.mkdir()
    monkeypatch.setattr(os, "fsync", heard_sync)
    monkeypatch.setattr(os, "rename", heard_rename)
    save(5)
    last = [event for event in events if event != "sync "][-7:]
    assert last[-2:] == ["rename checkpoint-5", "sync run"]
    assert last[-3] == "sync .tmp"
    manifest_place = max(number for number, event in enumerate(events) if event == "sync MANIFEST.json")
    for name in ("model.safetensors", "optimizer.safetensors", "state.json", "vocabulary.txt"):
        assert events.index(f"sync {name}") < manifest_place


@pytest.mark.parametrize("error", [RuntimeError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failing_writer_leaves_nothing(run: RunFolder, save: Save, names: Names, error: BaseException) -> None:
    save(1)

    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        publish(run.checkpoint(2), write)
    assert names(run) == ["checkpoint-1"]


def test_the_same_step_again_replaces_the_old_one(run: RunFolder, save: Save, names: Names) -> None:
    save(3)
    publish(run.checkpoint(3), lambda folder: (folder / "note.txt").write_text("new") and None)
    assert list(verify(run.checkpoint(3))["files"]) == ["note.txt"]
    assert names(run) == ["checkpoint-3"]


def test_a_replacement_that_fails_leaves_the_old_one(
    run: RunFolder, save: Save, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = verify(save(3))
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).name.startswith(".tmp-") and Path(target).name == "checkpoint-3":
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(DiskError, match="checkpoint-3 is whole"):
        save(3)
    assert verify(run.checkpoint(3)) == before
    assert names(run) == ["checkpoint-3"]


def test_links_are_not_published(run: RunFolder, tmp_path: Path, names: Names) -> None:
    (tmp_path / "elsewhere").write_text("secret")
    with pytest.raises(CheckpointError, match="no plain file"):
        publish(run.checkpoint(1), lambda folder: (folder / "link").symlink_to(tmp_path / "elsewhere"))
    assert names(run) == []


def test_newest_passes_over_damage_and_says_why(run: RunFolder, save: Save, names: Names) -> None:
    for step in (9, 10, 11):
        save(step)
    (run.checkpoint(11) / "state.json").unlink()
    (run.checkpoint(10) / "MANIFEST.json").write_text("{")
    said: list[str] = []
    assert newest(run, warn=said.append) == run.checkpoint(9)
    assert len(said) == 2
    assert "state.json is missing" in said[0]
    assert "quarantine/checkpoint-11" in said[0]
    assert "MANIFEST.json is not JSON" in said[1]
    assert names(run) == ["checkpoint-9", "quarantine"]
    assert len(list((run.path / "quarantine" / "checkpoint-11").iterdir())) == 4
    assert newest(run, warn=said.append) == run.checkpoint(9)
    assert len(said) == 2


def test_newest_looks_again_where_one_gave_way_meanwhile(
    run: RunFolder, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the older one beside it, which a run may keep for good."""
    save(1)
    save(2)

    def read(folder: Path) -> None:
        if folder == run.checkpoint(2):
            save(3)
            discard(folder)
        verify(folder)

    monkeypatch.setattr(protocol, "verify", read)
    assert newest(run, quarantine=False) == run.checkpoint(3)


def test_names_in_quarantine_do_not_clash(run: RunFolder, save: Save, names: Names) -> None:
    for _ in range(3):
        (save(2) / "extra").write_text("")
        assert newest(run, warn=lambda _: None) is None
    assert names(RunFolder(run.path / "quarantine")) == ["checkpoint-2", "checkpoint-2.1", "checkpoint-2.2"]


def test_a_reader_moves_nothing(run: RunFolder, save: Save, names: Names) -> None:
    save(1)
    (save(2) / "extra").write_text("")
    said: list[str] = []
    assert newest(run, warn=said.append, quarantine=False) == run.checkpoint(1)
    assert names(run) == ["checkpoint-1", "checkpoint-2"]
    assert "passed over" in said[0]


def test_no_checkpoint_is_no_error(run: RunFolder) -> None:
    assert newest(run) is None
    clean(run)
    rotate(run, 2)


def test_rotation_goes_by_step_and_keeps_the_protected(run: RunFolder, save: Save, names: Names) -> None:
    for step in (8, 9, 10, 100, 11):
        save(step)
    rotate(run, 2, [run.checkpoint(9)])
    assert names(run) == ["checkpoint-100", "checkpoint-11", "checkpoint-9"]
    with pytest.raises(ValueError, match="at least 1"):
        rotate(run, 0)


@pytest.mark.parametrize("clock", ["back", "forward", "equal"])
def test_rotation_and_choice_know_no_clock(run: RunFolder, save: Save, names: Names, clock: str) -> None:
    for step in range(1, 6):
        save(step)
        moment = {"back": time.time() - 7200 * step, "forward": time.time() + 3e7 * step, "equal": 1e9}[clock]
        for path in (run.checkpoint(step), *run.checkpoint(step).iterdir()):
            os.utime(path, (moment, moment))
        rotate(run, 2)
    assert newest(run) == run.checkpoint(5)
    assert names(run) == ["checkpoint-4", "checkpoint-5"]


def test_a_damaged_checkpoint_does_not_displace_a_whole_one(run: RunFolder, save: Save, names: Names) -> None:
    for step in (1, 2, 3):
        save(step)
    for step in (2, 3):
        (run.checkpoint(step) / "state.json").unlink()
    rotate(run, 1)
    assert names(run) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]


def test_leaving_a_branch_sets_its_checkpoints_aside(run: RunFolder, save: Save, names: Names) -> None:
    for step in (10, 20, 30):
        save(step)
    assert set_aside_after(run, 10) == [run.checkpoint(20), run.checkpoint(30)]
    assert newest(run) == run.checkpoint(10)
    assert names(RunFolder(run.path / "quarantine")) == ["checkpoint-20", "checkpoint-30"]


def test_clean_removes_leftovers_only(run: RunFolder, save: Save, names: Names) -> None:
    save(1)
    (run.path / "metrics.jsonl").write_text("{}\n")
    for leftover in (".tmp-checkpoint-2-1-ab", ".trash-checkpoint-0-1-ab"):
        (run.path / leftover / "deep").mkdir(parents=True)
        (run.path / leftover / "deep" / "file").write_text("x")
    (run.path / f".tmp-metrics.jsonl-{machine()}-{2**23}-7-0123abcd").write_text("x")  # no process has this number
    alive = unique_name(run.path / "report.html")
    alive.write_text("x")
    clean(run)
    assert names(run) == [alive.name, "checkpoint-1", "metrics.jsonl"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_checkpoint_that_waited_is_put_back_unless_the_new_one_stands(
    run: RunFolder, save: Save, names: Names, *, damaged: bool
) -> None:
    save(4).rename(run.path / ".aside-checkpoint-4-77-ab")
    if damaged:
        (save(4) / "extra").write_text("")
    clean(run)
    assert newest(run) == run.checkpoint(4)
    assert "extra" not in verify(run.checkpoint(4))["files"]
    assert names(run) == (["checkpoint-4", "quarantine"] if damaged else ["checkpoint-4"])


def test_a_file_where_the_run_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("I am a file")
    with pytest.raises(OutputError, match="cannot be written"):
        publish(RunFolder(tmp_path / "run").checkpoint(1), lambda _: None)
    assert (tmp_path / "run").read_text() == "I am a file"


def test_a_file_where_the_checkpoint_should_be_is_said(run: RunFolder, names: Names) -> None:
    run.path.mkdir()
    run.checkpoint(1).write_text("I am a file")
    with pytest.raises(OutputError, match="cannot be written"):
        publish(run.checkpoint(1), lambda folder: (folder / "a").write_text("a") and None)
    assert names(run) == ["checkpoint-1"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_said(run: RunFolder) -> None:
    run.path.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        publish(run.checkpoint(1), lambda _: None)


def test_a_file_system_that_refuses_is_said(run: RunFolder, save: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system", str(run.path))

    run.path.mkdir()
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(OutputError, match="Read-only file system"):
        save(1)


@settings(max_examples=25)
@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,3}(/[a-z]{1,3})?\.x", fullmatch=True), st.binary(max_size=20), max_size=5)
)
def test_any_files_round_trip(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    final = tmp_path_factory.mktemp("run") / "checkpoint-1"

    def write(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    publish(final, write)
    assert {name: entry["size"] for name, entry in verify(final)["files"].items()} == {
        name: len(content) for name, content in files.items()
    }
    assert (final / manifest.NAME).read_bytes()
    assert read_json(final / manifest.NAME)["name"] == "checkpoint-1"
