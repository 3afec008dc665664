"""How checkpoints come and go, so that a reader sees whole ones only, whenever a process is killed.

A new one is written under `.tmp-`, put on the disk, and renamed. One that gives way to a new one of the
same step waits under `.aside-` until the new one stands; one that is deleted is first renamed to `.trash-`.
So a folder called `checkpoint-N` is never being written and never being deleted.
"""

import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from instar.checkpoint import manifest
from instar.checkpoint.lease import must_hold
from instar.checkpoint.manifest import verify
from instar.core.errors import CheckpointError, DiskError, InstarError, OutputError
from instar.core.files.disk import disk_errors
from instar.core.files.durable import free_name, sync_file, write_bytes
from instar.core.files.temporary import is_left_over, remove, sync_folder, unique_name
from instar.core.rundir import RunFolder

__all__ = ["clean", "damage", "discard", "newest", "publish", "rotate", "set_aside_after", "verify"]

_SMALL = 16 << 20
_log = logging.getLogger(__name__)


def publish(final: Path, write: Callable[[Path], None]) -> None:
    """`final` becomes the checkpoint that `write` puts into the folder it is given: all of it or nothing.

    Whatever goes wrong, what `write` wrote is removed and every checkpoint that was there is still there.
    A checkpoint of that name that exists gives way to the new one, and stays on the disk until the new one
    stands. DiskError names the path, the bytes needed and free, and which checkpoint is whole.
    """
    temporary = unique_name(final)
    before = RunFolder(final.parent).checkpoints()
    try:
        with disk_errors(final, needed=_size(before)):
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            write(temporary)
            _seal(temporary, final.name)
            _stand(temporary, final)
    except OutputError:
        must_hold(final.parent, surely=True)  # another process that holds the folder has cleared it
        raise
    except DiskError as error:
        text = str(error).replace(str(temporary), str(final))
        raise DiskError(f"{text}; {_still_whole(before)}") from error
    finally:
        if temporary.exists():
            remove(temporary)


def _seal(folder: Path, name: str) -> None:
    sizes = manifest.plain_files(folder)
    mode = folder.stat().st_mode & 0o666  # what the umask wants; safetensors leaves files for the owner alone
    for path in sizes:
        (folder / path).chmod(mode)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="sync") as pool:  # while the disk works, we hash
        synced = [pool.submit(sync_file, folder / path) for path in sizes]
        digests = dict(manifest.hash_files(folder, sizes))
        for file in synced:
            file.result()
    write_bytes(folder / manifest.NAME, manifest.describe(sizes, digests, name))
    for subfolder in (path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(subfolder)
    sync_folder(folder)


def _stand(temporary: Path, final: Path) -> None:
    must_hold(final.parent, surely=True)
    aside: Path | None = None
    if final.is_dir() and not final.is_symlink():
        aside = unique_name(final, ".aside-")
        final.rename(aside)
    try:
        temporary.rename(final)
    except BaseException:
        if aside is not None:
            aside.rename(final)
        raise
    sync_folder(final.parent)
    if aside is not None:
        discard(aside)


def discard(folder: Path) -> None:
    """Delete a checkpoint such that nobody ever meets half of it under its name."""
    trash = unique_name(folder.with_name(folder.name.lstrip(".")), ".trash-")
    with suppress(FileNotFoundError):
        folder.rename(trash)
        sync_folder(folder.parent)
    remove(trash)


def _size(checkpoints: list[tuple[int, Path]]) -> int | None:
    """Bytes of the newest checkpoint: the best guess at what the next one needs."""
    try:
        return sum(manifest.plain_files(checkpoints[-1][1]).values()) if checkpoints else None
    except (OSError, CheckpointError):
        return None


def _still_whole(checkpoints: list[tuple[int, Path]]) -> str:
    for _, folder in reversed(checkpoints):
        try:
            verify(folder)
        except InstarError:
            continue
        return f"{folder.name} is whole, and the same command goes on from it"
    return "there is no checkpoint before it"


def damage(folder: Path) -> str | None:
    """Why a checkpoint cannot be whole, found at once: files of at most 16 MiB are read, of others the sizes.

    None for one that looks whole, and for one that is gone.
    """
    try:
        verify(folder, largest=_SMALL)
    except CheckpointError as error:
        return str(error) if folder.is_dir() else None
    return None


def newest(run: RunFolder, *, warn: Callable[[str], None] = _log.warning, quarantine: bool = True) -> Path | None:
    """The newest checkpoint, by step, that verifies; None where there is none.

    A damaged one is moved to `quarantine/` in the run folder, never deleted, with one warning that says why.
    A caller that does not hold the run passes `quarantine=False`: then damaged ones are passed over where they are.
    """
    if quarantine:
        _restore(run)
    passed_over: set[Path] = set()
    while waiting := [folder for _, folder in run.checkpoints() if folder not in passed_over]:
        folder = waiting[-1]
        try:
            verify(folder)
        except CheckpointError as error:
            if folder.is_dir():  # else it gave way to a newer one while we read it: look again
                warn(f"{error}; {_quarantine(run, folder) if quarantine else 'it is passed over'}")
                passed_over.add(folder)
            continue
        return folder
    return None


def _quarantine(run: RunFolder, folder: Path) -> str:
    place = run.path / "quarantine"
    try:
        place.mkdir(exist_ok=True)
        target = free_name(place / folder.name)
        folder.rename(target)
        sync_folder(place)
        sync_folder(run.path)
    except OSError as error:
        return f"it stays where it is ({error.strerror}) and is passed over"
    return f"moved to {target}"


def rotate(run: RunFolder, keep_last: int, keep: Collection[Path] = ()) -> None:
    """Delete all checkpoints but the `keep_last` of the highest steps and those in `keep`; clocks play no part.

    Only those that look whole (manifest and sizes) count and are deleted: a damaged one never displaces a whole one.
    """
    if keep_last < 1:
        raise ValueError(f"keep_last must be at least 1; got {keep_last}")
    must_hold(run.path)
    protected = {path.absolute().name for path in keep if path.absolute().parent == run.path.absolute()}
    whole = [folder for _, folder in run.checkpoints() if _is_whole(folder, hashes=False)]
    with disk_errors(run.path):
        for folder in whole[:-keep_last]:
            if folder.name not in protected:
                discard(folder)


def _is_whole(folder: Path, *, hashes: bool = True) -> bool:
    try:
        verify(folder, hashes=hashes)
    except CheckpointError:
        return False
    return True


def set_aside_after(run: RunFolder, step: int) -> list[Path]:
    """Move checkpoints above `step` to `quarantine/` and name them: a run that goes on from `step` leaves them behind.

    Without it a kill would bring back the branch that the user had left.
    """
    later = [folder for number, folder in run.checkpoints() if number > step]
    for folder in later:
        _quarantine(run, folder)
    return later


def clean(run: RunFolder) -> None:
    """Remove what killed processes left, and put back a checkpoint that was waiting to be replaced.

    The caller holds the run, so nobody else writes checkpoints; another process may be writing other files (a report).
    """
    _restore(run)
    if not run.path.is_dir():
        return
    for entry in sorted(run.path.iterdir()):
        is_free = entry.name.startswith((".tmp-checkpoint-", ".trash-"))
        if is_free or (entry.name.startswith(".tmp-") and is_left_over(entry)):
            remove(entry)


def _restore(run: RunFolder) -> None:
    if not run.path.is_dir():
        return
    for aside in sorted(run.path.glob(".aside-checkpoint-*")):
        final = run.path / "-".join(aside.name.removeprefix(".aside-").split("-")[:2])
        if final.exists() and _is_whole(final):
            discard(aside)
            continue
        if final.exists():
            _quarantine(run, final)
        aside.rename(final)
        sync_folder(run.path)
