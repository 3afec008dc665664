"""Which checkpoints of a run are whole, which one to go on from, and which to let go."""

import json
import logging
import os
import re
import zipfile
from pathlib import Path

from instar.api.checkpoints import names
from instar.api.checkpoints.weights import check_header, weight_files
from instar.checkpoint import manifest, protocol
from instar.core.errors import CheckpointError
from instar.core.files.disk import disk_errors
from instar.core.files.temporary import is_left_over, remove, sync_folder
from instar.core.limits import raise_if_limited

_log = logging.getLogger(__name__)
_LEFT_OVER = re.compile(r"\.(tmp|trash)-(?:aside-)?checkpoint-[0-9]+-[0-9a-f-]+")
_ASIDE = re.compile(r"\.aside-(checkpoint-[0-9]+)-[0-9a-f-]+")


def problem(folder: Path, *, hashes: bool = True) -> str | None:
    """Why a folder is no checkpoint to resume from; None where it is one.

    One of ours holds every file that was written, to the byte (`hashes`; else to its size); others may lie beside,
    and its weights may have been cut into parts since. One of Transformers has no list of its files: its weights,
    its state and its tensor files must open.
    """
    try:
        if (folder / manifest.NAME).is_file():
            cut = {names.WEIGHTS} if (folder / names.WEIGHTS_INDEX).is_file() else set()
            manifest.verify(folder, hashes=hashes, alone=False, may_lack=cut)
        for file in weight_files(folder):
            if file.suffix == ".safetensors":
                check_header(file)
        _check_state(folder / names.STATE)
        for file in sorted([*folder.glob("*.pt"), *folder.glob("*.pth")]):
            _check_archive(file)
    except FileNotFoundError as error:
        return f"{folder}: {Path(str(error.filename)).name} is missing"
    except (CheckpointError, ValueError, OSError, RecursionError) as error:
        raise_if_limited(error)
        text = str(error)
        return text if str(folder) in text else f"{folder}: {text}"
    return None


def _check_state(file: Path) -> None:
    state = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(state, dict) or not isinstance(state.get("global_step"), int):
        raise CheckpointError(f"{file}: is not the state of a trainer")


def _check_archive(file: Path) -> None:
    try:
        with zipfile.ZipFile(file):
            pass
    except (zipfile.BadZipFile, OSError) as error:
        raise_if_limited(error)
        raise CheckpointError(f"{file}: is damaged: {error}") from error


def newest_whole(run: str | os.PathLike[str], reasons: list[str] | None = None) -> Path | None:
    """The whole checkpoint with the highest step; each damaged one above it is passed over with a warning.

    Where there is none, `reasons` has one for each.
    """
    for folder in reversed(names.checkpoints(run)):
        reason = problem(folder)
        if reason is None:
            return folder
        if reasons is not None:
            reasons.append(reason)
        _log.warning("%s; this checkpoint is damaged and is passed over", reason)
    return None


def find_checkpoint(resume_from_checkpoint: object, output_dir: str | os.PathLike[str]) -> Path | None:
    """The whole checkpoint that a caller of `train` means; None for one who means none.

    True is the newest whole one of the run. A path is that checkpoint, and where there is no such folder, the newest
    whole one beside it, with a warning. ValueError where there is none, or the one that was named is damaged.
    """
    if resume_from_checkpoint is None or resume_from_checkpoint is False:
        return None
    if resume_from_checkpoint is True:
        reasons: list[str] = []
        found = newest_whole(output_dir, reasons)
        if found is None:
            why = "".join(f"\n{reason}" for reason in reasons)
            raise ValueError(f"No valid checkpoint found in output directory ({output_dir}){why}")
        return found
    if not isinstance(resume_from_checkpoint, str | os.PathLike):
        raise TypeError(f"resume_from_checkpoint: wanted a path or a bool; got {resume_from_checkpoint!r}")
    folder = Path(resume_from_checkpoint)
    if not folder.is_dir():
        return _beside(folder)
    reason = problem(folder)
    if reason is not None:
        raise ValueError(f"Can't find a valid checkpoint at {folder}: {reason}{_advice(folder)}")
    return folder


def _beside(folder: Path) -> Path:
    found = newest_whole(folder.parent) if names.step_of(folder) is not None else None
    if found is None:
        raise ValueError(f"Can't find a valid checkpoint at {folder}: there is no such folder{_advice(folder)}")
    _log.warning("%s: there is no such checkpoint; training goes on from %s, the newest whole one there", folder, found)
    return found


def _advice(folder: Path) -> str:
    inside, beside = names.checkpoints(folder), names.checkpoints(folder.parent)
    if inside:
        return f"; it holds checkpoints, of which {inside[-1]} is the newest"
    others = [place for place in beside if place != folder]
    if others and names.step_of(folder) is not None:
        return f"; the others of this run are {', '.join(place.name for place in others)}"
    return ""


def in_order(run: str | os.PathLike[str], best: str | os.PathLike[str] | None = None) -> list[Path]:
    """The checkpoints of a run in the order in which they may go: damaged, then by step, the best last but one."""
    found = sorted(names.checkpoints(run), key=lambda folder: problem(folder, hashes=False) is None)
    kept = [folder for folder in found if best is not None and folder.absolute() == Path(best).absolute()]
    if kept and found[-1] != kept[0]:
        found.remove(kept[0])
        found.insert(len(found) - 1, kept[0])
    return found


def rotate(run: str | os.PathLike[str], limit: int | None, best: str | os.PathLike[str] | None = None) -> None:
    """Delete all but `limit` checkpoints, by step; the best stays, and the newest beside it also where the limit is 1.

    A damaged one never takes the place of a whole one.
    """
    if limit is None or limit <= 0:
        return
    found = in_order(run, best)
    if limit == 1 and best is not None and found and found[-1].absolute() != Path(best).absolute():
        limit = 2
    with disk_errors(Path(run)):
        for folder in found[:-limit]:
            protocol.discard(folder)


def keep_best_alone(run: str | os.PathLike[str], best: str | os.PathLike[str]) -> None:
    """Delete every checkpoint but the best, where that is there."""
    if not Path(best).is_dir():
        return
    for folder in names.checkpoints(run):
        if not folder.samefile(best):
            protocol.discard(folder)


def sweep(run: str | os.PathLike[str]) -> None:
    """Remove what a killed process left of a save, and put back a checkpoint that it was about to replace.

    For the one process that writes there, before it does; a save that another process may be writing stays.
    """
    if not Path(run).is_dir():
        return
    for entry in sorted(Path(run).iterdir()):
        if aside := _ASIDE.fullmatch(entry.name):
            final = entry.with_name(aside[1])
            if final.exists():
                remove(entry)
            else:
                entry.rename(final)
                sync_folder(final.parent)
        elif (kind := _LEFT_OVER.fullmatch(entry.name)) and (kind[1] == "trash" or is_left_over(entry)):
            remove(entry)
