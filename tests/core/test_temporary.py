"""Temporary names on shared file systems: never the same twice, and deleted only where nobody writes them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instar.core.files import temporary
from instar.core.files.temporary import (
    OLD_SECONDS,
    clock_of,
    courtesy_lock,
    is_left_over,
    machine,
    publish_unless_whole,
    remove_leftovers,
    set_aside,
    unique_name,
)

NOBODY = 2**23  # above the highest process id that Linux gives


def whole(folder: Path) -> bool:
    return (folder / "content").is_file() and (folder / "content").read_text().startswith("whole")


def folder_of(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "content").write_text(content)
    return path


def test_containers_that_repeat_host_and_process_id_get_other_names(tmp_path: Path) -> None:
    names = {unique_name(tmp_path / "a").name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(".tmp-a-") for name in names)
    assert len(os.fsencode(unique_name(tmp_path / ("ä" * 127)).name)) <= 255


def test_what_a_living_process_writes_stays_and_what_a_dead_one_left_goes(tmp_path: Path) -> None:
    final = tmp_path / "x[1]"
    mine = unique_name(final)
    child = subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; "
         "from instar.core.files.temporary import unique_name; print(unique_name(Path(sys.argv[1])))", str(final)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    gone = Path(child.stdout.strip())
    repeated = (
        tmp_path / f".tmp-{final.name}-{machine()}-{os.getpid()}-7-0123abcd"
    )  # the number is another process's now
    elsewhere = tmp_path / f".tmp-{final.name}-{'0' * 12}-{NOBODY}-7-0123abcd"
    for path in (mine, gone, repeated, elsewhere):
        folder_of(path, "x")
    remove_leftovers(final)
    assert sorted(tmp_path.iterdir()) == sorted([mine, elsewhere])


def test_age_goes_by_the_clock_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder_of(tmp_path / f".tmp-x-{'0' * 12}-{NOBODY}-7-0123abcd", "x")
    monkeypatch.setattr(time, "time", lambda: 4e9)  # this host's clock is decades ahead
    assert clock_of(tmp_path) < 4e9
    assert not is_left_over(elsewhere)
    old = clock_of(tmp_path) - OLD_SECONDS - 5
    os.utime(elsewhere, (old, old))
    assert not is_left_over(elsewhere), "a file within was written just now"
    os.utime(elsewhere / "content", (old, old))
    assert is_left_over(elsewhere)
    assert [entry.name for entry in tmp_path.iterdir()] == [elsewhere.name], "the clock leaves nothing behind"


def test_the_first_whole_folder_stays_and_a_damaged_one_gives_way(tmp_path: Path) -> None:
    final = tmp_path / "final"
    for content, then in (("whole 1", "whole 1"), ("whole 2", "whole 1")):
        publish_unless_whole(folder_of(unique_name(final), content), final, whole)
        assert (final / "content").read_text() == then
    (final / "content").write_text("damaged")
    publish_unless_whole(folder_of(unique_name(final), "whole 3"), final, whole)
    assert (final / "content").read_text() == "whole 3"
    assert list(tmp_path.iterdir()) == [final]


def test_a_whole_folder_that_came_in_between_is_put_back(tmp_path: Path) -> None:
    final = folder_of(tmp_path / "final", "whole, from a process that was faster")
    set_aside(final, whole)
    assert list(tmp_path.iterdir()) == [final]
    set_aside(tmp_path / "none", whole)


def test_a_lock_whose_holder_shows_no_sign_of_life_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary, "SILENT_SECONDS", 0.2)
    final = tmp_path / "final"
    writing = [True, True, False]
    monkeypatch.setattr(temporary, "_is_being_written", lambda path: writing.pop(0))
    with courtesy_lock(final), courtesy_lock(final):
        assert not writing


def test_a_file_system_without_locks_is_used_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with courtesy_lock(tmp_path / "final"):
        pass
