"""The data files of a folder, links followed: a folder of one's own, or a snapshot of a hub."""

import os
import re
from collections.abc import Iterator, Set
from pathlib import Path

from instar.core.errors import DataError, InputMissingError

_PACKED = (".gz", ".zst", ".bgz")
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder and of those in it, sorted; links are followed, and each folder is read once.

    Raises InputMissingError that lists the links that lead nowhere.
    """
    found: list[Path] = []
    broken: list[str] = []
    seen: set[str] = set()
    for above, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(above)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in (*names, *(name for name in folders if not (Path(above) / name).exists())):
            path = Path(above) / name
            if path.is_file():
                found.append(path)
            elif path.is_symlink() and not path.exists():
                broken.append(f"{path}: is a broken link; {path.readlink()} does not exist")
    if broken:
        raise InputMissingError("\n".join(sorted(broken)))
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def data_files(folder: Path, endings: tuple[str, ...], left_out: Set[Path]) -> list[Path]:
    """The files with one of these endings, packed ones too; hidden ones and those `left_out` are passed over.

    Raises InputMissingError where there are none, and DataError where the names say that training and held-out data lie
    beside each other.
    """
    if (folder / "snapshots").is_dir() and (folder / "blobs").is_dir():
        inside = ", ".join(sorted(str(entry) for entry in (folder / "snapshots").iterdir())) or "none"
        raise InputMissingError(f"{folder}: is a cache of a hub; name one of its snapshots: {inside}")
    every = [path for path in files_below(folder) if not _is_hidden(path.relative_to(folder))]
    found = [path for path in every if _ending(path) in endings]
    if not found:
        held = ", ".join(str(path.relative_to(folder)) for path in every[:10]) or "no file"
        raise InputMissingError(
            f"{folder}: this folder has no file that ends in {', '.join(endings)}; it holds: {held}"
        )
    found = [path for path in found if path.resolve() not in left_out]
    _refuse_mixed_splits(folder, found)
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _ending(path: Path) -> str:
    return next((ending.lower() for ending in reversed(path.suffixes) if ending.lower() not in _PACKED), "")


def _refuse_mixed_splits(folder: Path, found: list[Path]) -> None:
    splits: dict[str | None, str] = {}
    for path in found:
        name = path.relative_to(folder)
        splits.setdefault(next(_named_splits(name), None), str(name))
    if len(splits) > 1 and {"validation", "test"} & set(splits):
        names = ", ".join(sorted(splits.values()))
        raise DataError(
            f"{folder}: has files of several splits ({names}), which are not to be read as one; name those of one "
            f"split with a pattern, like {folder}/**/train*"
        )


def _named_splits(path: Path) -> Iterator[str]:
    for word in re.split(r"[^A-Za-z]+", str(path)):
        if word.lower() in _SPLITS:
            yield _SPLITS[word.lower()]
