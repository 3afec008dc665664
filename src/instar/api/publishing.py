"""Uploads to the Hub: in the background, and never at the price of what was to be uploaded."""

import logging
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from instar.core.files.temporary import remove

_log = logging.getLogger(__name__)

NOT_PUBLISHED = ("_*", f"{PREFIX_CHECKPOINT_DIR}-*", ".*")
"""What of an output folder stays here."""
TRAINING_STATE = (
    "optimizer*", "scheduler*", "scaler*", "rng_state*", "average*", "loop.json", "trainer_state.json", "MANIFEST.json",
)  # fmt: skip
"""What of a checkpoint serves to go on training, and not to use the model."""


@dataclass(frozen=True, kw_only=True)
class StagedPush:
    """A push that was not made because the Hub cannot be reached: the folder is complete, `command` publishes it."""

    repo_id: str
    folder: Path
    commit_message: str
    reason: str
    private: bool | None = None
    revision: str | None = None

    @property
    def command(self) -> str:
        """What to type where there is a connection."""
        words = ["hf", "upload", self.repo_id, str(self.folder), ".", "--commit-message", self.commit_message]
        words += ["--private"] if self.private else []
        words += ["--revision", self.revision] if self.revision else []
        words += [word for pattern in NOT_PUBLISHED for word in ("--exclude", pattern)]
        return shlex.join(words)

    def __str__(self) -> str:
        return (
            f"nothing was uploaded to {self.repo_id}: {self.reason}. All files are in {self.folder}; when there is a "
            f"connection, call push_to_hub again, or run: {self.command}"
        )


def unreachable() -> tuple[type[Exception], ...]:
    """The errors that say that there is no way to the Hub; what the Hub itself refuses is not among them."""
    from huggingface_hub.errors import OfflineModeIsEnabled
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # under whatever name the Hub's client has it

    return (OfflineModeIsEnabled, ConnectionError, httpx.TransportError)


class PushInProgress:
    """Uploads in the background, one after another, in the order they were asked for."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub")
        self.jobs: list[Future[Any]] = []

    def start(self, upload: Callable[[], Any]) -> Future[Any]:
        """Do it after those before it."""
        job = self._pool.submit(upload)
        self.jobs.append(job)
        return job

    def is_done(self) -> bool:
        """Whether nothing is under way."""
        return all(job.done() for job in self.jobs)

    def wait_until_done(self) -> None:
        """Wait for all; what went wrong is said, once for each."""
        self._pool.shutdown(wait=True)
        for job in self.jobs:
            if (error := job.exception()) is not None:
                _log.warning("an upload to the Hub failed, and the files are still here: %s", error)


def stage(folder: Path, to: Path) -> Path:
    """The files of `folder` as they are now, under `to`, whatever happens to it; links where the disk has them."""
    remove(to)
    for path in sorted(folder.rglob("*")):
        copy = to / path.relative_to(folder)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, copy)
        except OSError:
            shutil.copy2(path, copy)
    return to


def upload(api: Any, folder: Path, repo_id: str, message: str, *, ignore: Sequence[str] = (), **options: Any) -> Any:
    """One commit of a folder's files."""
    return api.upload_folder(
        repo_id=repo_id, folder_path=str(folder), commit_message=message, ignore_patterns=list(ignore), **options
    )
