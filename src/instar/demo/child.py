"""Training processes that the demo starts, watches, and kills."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from instar.core.errors import TrainingError
from instar.core.files.json_files import read_lines
from instar.core.rundir import RunFolder

_PATIENCE = 15.0
"""Seconds that a process has to save and leave before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One run of the demo: a recipe of the package with a few values changed."""

    name: str
    recipe: Path
    overrides: tuple[str, ...]
    folder: Path
    log: Path
    steps: int | None = None
    """Optimizer steps of the whole run, where its budget is in steps."""

    @property
    def arguments(self) -> list[str]:
        """What stands after `instar` on the command line; the same for the first start and for every resume."""
        return ["train", str(self.recipe), *self.overrides, "--output", str(self.folder)]

    def lines(self, split: str) -> list[dict[str, float]]:
        """Measurements so far, oldest first."""
        path = RunFolder(self.folder).metrics
        return [line for line in read_lines(path) if line.get("split") == split] if path.is_file() else []


@dataclass
class Child:
    """A training process of one thread, in a session of its own: Ctrl-C reaches it through the demo only."""

    stage: Stage
    started: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.stage.log.parent.mkdir(parents=True, exist_ok=True)
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with self.stage.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "instar.cli", *self.stage.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **one_thread},
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """False once it trained to the end; TrainingError with its last words if it failed."""
        code = self.process.poll()
        if code is None:
            return True
        if code:
            raise TrainingError(f"the training of {self.stage.name} ended with status {code}: {self._last_words()}")
        return False

    def has_logged(self) -> bool:
        """Whether what the run's log holds is of this process, not of one before it."""
        path = RunFolder(self.stage.folder).metrics
        return path.is_file() and path.stat().st_mtime > self.started

    def kill(self) -> None:
        """SIGKILL: the process ends between two of its instructions, and knows nothing of it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def leave(self) -> None:
        """Ask it to save and leave."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def gone(self, patience: float) -> None:
        """Wait until it is gone; kill it after `patience` seconds."""
        try:
            self.process.wait(max(0.0, patience))
        except subprocess.TimeoutExpired:
            self.kill()

    def _last_words(self) -> str:
        lines = self.stage.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{' '.join(lines[-3:])} (all of it: {self.stage.log})"


class Children:
    """All training processes of the demo; none outlives it."""

    def __init__(self) -> None:
        self._all: list[Child] = []
        self._waiting: list[Stage] = []
        self._behind: Child | None = None

    def start(self, stage: Stage) -> Child:
        """Train a stage now."""
        child = Child(stage)
        self._all.append(child)
        return child

    def behind(self, stages: Sequence[Stage]) -> None:
        """Train stages one after the other on the other core, as `poll` finds the one before done."""
        self._waiting += stages
        self.poll()

    def poll(self) -> None:
        """Start the next stage in waiting if its turn has come; TrainingError if one failed."""
        if self._behind is not None and self._behind.is_running():
            return
        self._behind = self.start(self._waiting.pop(0)) if self._waiting else None

    def is_behind(self, stage: Stage) -> bool:
        """Whether a stage still waits or trains behind."""
        self.poll()
        return stage in self._waiting or (self._behind is not None and self._behind.stage == stage)

    def end(self) -> None:
        """Ask every process to save and leave, and wait for it; whoever does not is killed."""
        for child in self._all:
            child.leave()
        deadline = time.monotonic() + _PATIENCE
        for child in self._all:
            child.gone(deadline - time.monotonic())


@contextmanager
def children() -> Iterator[Children]:
    """The demo's processes, which have left when the block is left, however it is left."""
    held = Children()
    try:
        yield held
    finally:
        held.end()
