"""What a checkpoint folder must hold, to the byte: MANIFEST.json."""

import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from instar.core.errors import CheckpointError
from instar.core.files.json_files import from_json, to_json
from instar.core.files.plain import open_plain, read_plain
from instar.core.limits import raise_if_limited

NAME = "MANIFEST.json"
FORMAT = "instar-checkpoint"
VERSION = 1


def describe(sizes: dict[str, int], digests: dict[str, str], name: str) -> bytes:
    """The manifest of files of these sizes and digests in a folder that is to be called `name`."""
    files = {path: {"sha256": digests[path], "size": size} for path, size in sizes.items()}
    return to_json({"files": files, "format": FORMAT, "name": name, "version": VERSION})


def hash_files(folder: Path, paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(path, SHA-256) of each file, in order, as far as they are asked for; two at a time, off the caller's thread."""
    names = list(paths)
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="hash") as pool:
        yield from zip(names, pool.map(lambda path: sha256(folder / path), names), strict=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain_files(folder: Path) -> dict[str, int]:
    """Size of every file in a folder and its subfolders, by relative path; CheckpointError for links and devices."""
    found: dict[str, int] = {}
    for place, folders, files in os.walk(folder, onerror=_raise):  # `Path.rglob` leaves out what may not be read
        for path in (Path(place, name) for name in (*folders, *files)):
            status, relative = path.lstat(), path.relative_to(folder).as_posix()
            if stat.S_ISREG(status.st_mode):
                found[relative] = status.st_size
            elif not stat.S_ISDIR(status.st_mode):
                raise CheckpointError(f"{folder}: {relative} is no plain file (a link or a device)")
    return dict(sorted(found.items()))


def _raise(error: OSError) -> None:
    raise error


def verify(
    folder: Path,
    *,
    hashes: bool = True,
    alone: bool = True,
    may_lack: Collection[str] = (),
    largest: int | None = None,
) -> dict[str, Any]:
    """The manifest of a checkpoint whose every file is there, of the size and content that were written, and no other.

    CheckpointError names the first file that is not, and why. Without `hashes` contents are not read, with `largest`
    only those of files of at most so many bytes; unless `alone`, files of others may lie beside; those of `may_lack`
    may be gone.
    """
    try:
        manifest, files = _verify(folder, alone=alone, may_lack=may_lack)
        read = [path for path, entry in files.items() if hashes and (largest is None or entry["size"] <= largest)]
        for path, digest in hash_files(folder, read):
            if digest != files[path]["sha256"]:
                raise CheckpointError(f"{folder}: {path} has other content than was written (SHA-256 differs)")
        return manifest
    except OSError as error:
        raise_if_limited(error)
        raise CheckpointError(f"{folder}: cannot be read: {error.filename}: {error.strerror}") from error


def _verify(folder: Path, *, alone: bool, may_lack: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest, and the entries of the files that are there; contents are not read."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is not a folder; a checkpoint is a folder with {NAME}")
    present = plain_files(folder)
    if NAME not in present:
        raise CheckpointError(f"{folder}: {NAME} is missing, so it is no whole checkpoint")
    manifest = _read(folder)
    gone = {path for path in may_lack if path not in present}
    wanted: dict[str, dict[str, Any]] = {path: entry for path, entry in manifest["files"].items() if path not in gone}
    present.pop(NAME)
    for path in sorted({*wanted, *present} if alone else wanted):
        if path not in present:
            raise CheckpointError(f"{folder}: {path} is missing")
        if path not in wanted:
            raise CheckpointError(f"{folder}: {path} is not in {NAME}; move it out of the checkpoint")
        if present[path] != wanted[path]["size"]:
            raise CheckpointError(f"{folder}: {path} has {present[path]:,} bytes, not {wanted[path]['size']:,}")
    return manifest, wanted


def _read(folder: Path) -> dict[str, Any]:
    content = read_plain(folder / NAME)
    try:
        manifest = from_json(content)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {NAME} is not JSON: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CheckpointError(f"{folder}: {NAME} is not of an instar checkpoint")
    if manifest.get("version") != VERSION:
        raise CheckpointError(
            f"{folder}: format version {manifest.get('version')!r}; this instar reads version {VERSION}"
        )
    for path, entry in _entries(folder, manifest.get("files")):
        if not _stays_inside(path):
            raise CheckpointError(f"{folder}: {NAME} names {path!r}, which is not inside the checkpoint")
        if set(entry) != {"sha256", "size"} or type(entry["size"]) is not int or type(entry["sha256"]) is not str:
            raise CheckpointError(f"{folder}: {NAME}: {path} wants a size and a sha256")
    name = manifest.get("name")
    if content != to_json(manifest) or set(manifest) != {"files", "format", "name", "version"}:
        raise CheckpointError(f"{folder}: {NAME} was edited: it is not the text that was written")
    if folder.name != name and folder.name.startswith("checkpoint-"):
        raise CheckpointError(f"{folder}: was published as {name!r}, so its step is not the one of its name")
    return manifest


def _entries(folder: Path, files: object) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise CheckpointError(f"{folder}: {NAME} lists no files")
    return list(files.items())


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and ".." not in parts and not path.startswith("/") and str(PurePosixPath(path)) == path
