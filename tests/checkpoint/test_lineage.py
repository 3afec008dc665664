"""The family tree of a checkpoint."""

from pathlib import Path

from instar.checkpoint.lineage import chain, parent_reference
from instar.core.files.json_files import write_json


def _write(folder: Path, step: int, parent: Path | str | None) -> Path:
    folder.mkdir(parents=True)
    reference = parent_reference(folder, parent) if isinstance(parent, Path) else parent
    write_json(folder / "state.json", {"step": step, "parent": reference, "run_hash": "ab", "versions": {"torch": "2"}})
    return folder


def test_the_chain_goes_from_the_newest_to_the_root(tmp_path: Path) -> None:
    root = _write(tmp_path / "one" / "checkpoint-10", 10, None)
    middle = _write(tmp_path / "one" / "checkpoint-20", 20, root)
    last = _write(tmp_path / "two" / "checkpoint-5", 5, middle)
    rows = chain(last)
    assert [row["path"] for row in rows] == [str(last), str(middle), str(root)]
    assert [row["step"] for row in rows] == [5, 20, 10]
    assert rows[0]["versions"] == {"torch": "2"}
    assert not any(row["missing"] or row["problem"] for row in rows)
    (tmp_path / "moved").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert [row["step"] for row in chain(tmp_path / "moved" / "two" / "checkpoint-5")] == [5, 20, 10]


def test_a_missing_parent_is_shown_as_missing(tmp_path: Path) -> None:
    rows = chain(_write(tmp_path / "checkpoint-20", 20, tmp_path / "checkpoint-10"))
    assert [row["missing"] for row in rows] == [False, True]
    assert rows[1]["path"] == str(tmp_path / "checkpoint-10")


def test_a_circle_ends(tmp_path: Path) -> None:
    _write(tmp_path / "a", 1, tmp_path / "b")
    _write(tmp_path / "b", 2, tmp_path / "a")
    rows = chain(tmp_path / "a")
    assert len(rows) == 3
    assert "own ancestor" in rows[2]["problem"]


def test_what_cannot_be_read_is_a_problem_of_its_row(tmp_path: Path) -> None:
    parent = _write(tmp_path / "parent", 1, None)
    child = _write(tmp_path / "child", 2, parent)
    (parent / "state.json").write_text("{")
    assert "state.json" in chain(child)[1]["problem"]
    (parent / "state.json").write_text('{"parent": 7}')
    assert "wanted an object" in chain(child)[1]["problem"]
    (parent / "state.json").unlink()
    assert "state.json" in chain(child)[1]["problem"]


def test_folders_reached_through_a_link_are_one_folder(tmp_path: Path) -> None:
    root = _write(tmp_path / "real" / "checkpoint-1", 1, None)
    child = _write(tmp_path / "real" / "checkpoint-2", 2, root)
    (tmp_path / "link").symlink_to(child)
    assert [row["step"] for row in chain(tmp_path / "link")] == [2, 1]
