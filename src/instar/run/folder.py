"""The run folder: where it is, whose it is, and what it holds beside the checkpoints."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from instar.checkpoint.disk import replace_bytes
from instar.checkpoint.lineage import STATE, no_checkpoint
from instar.config.dump import dump
from instar.config.load import Loaded, load
from instar.core.disk import disk_errors
from instar.core.errors import CheckpointError, ConfigError, InputMissingError, OutputError
from instar.core.rundir import RunFolder
from instar.run.config import RunConfig

FREE = (
    "output",
    "data.processes",
    "data.cache",
    "train.budget",
    "train.micro_tokens",
    "train.device",
    "train.parallel",
    "train.threads",
    "train.log_every",
    "train.eval_every",
    "train.sample_every",
    "train.save_every",
    "train.keep_last",
    "train.best_metric",
    "train.early_stopping",
    "train.prefetch",
    "train.tensorboard",
)
"""Keys that may change when a run goes on: they cannot change what was trained so far."""


def run_folder(run_file: Path, config: RunConfig, output: Path | None) -> RunFolder:
    """Where a run's files go: the command line's word, the run file's, or runs/NAME for NAME.yaml."""
    return RunFolder(output or Path(config.output or f"runs/{run_file.stem}"))


def run_hash(config: RunConfig) -> str:
    """Equal for two runs that make the same curve as far as both go."""
    return hashlib.sha256(json.dumps(_bound(config), sort_keys=True).encode()).hexdigest()


def must_be_free(run: RunFolder, loaded: Loaded[RunConfig]) -> None:
    """OutputError if the folder holds a run that trained otherwise, or the user's own run file; writes nothing."""
    if run.run_file.is_file():
        source = Path(loaded.source)
        if source.is_file() and source.samefile(run.run_file) and not _is_resolved(source):
            raise OutputError(
                f"{source}: the resolved run would be written over it; choose another --output, or give the "
                "file another name"
            )
        differing = _differing(run.run_file, loaded.value)
        if differing:
            raise OutputError(
                f"{run.path}: holds another run ({differing}); choose another --output, or delete this folder"
            )
    elif run.checkpoints():
        raise OutputError(f"{run.path}: holds checkpoints and no run.yaml; choose another --output")


def _is_resolved(run_file: Path) -> bool:
    """Whether a run file says all that a run folder's says, and nothing beside; comments at the ends of lines aside."""
    lines = run_file.read_text(encoding="utf-8"), dump(load(run_file, RunConfig))
    first, second = ([line.partition("  # ")[0] for line in text.splitlines()] for text in lines)
    return first == second


def must_go_on_from(checkpoint: Path, config: RunConfig) -> None:
    """CheckpointError if the checkpoint is of a run that trained otherwise."""
    differing = _differing(checkpoint / "run.yaml", config)
    if differing:
        raise CheckpointError(
            f"{checkpoint}: is of another run ({differing}); resume with the same values, or begin a new run with "
            f"model: {{from: {checkpoint}}}"
        )


def write_run_file(run: RunFolder, loaded: Loaded[RunConfig]) -> None:
    """The run folder says what it holds: every value, and where it came from."""
    with disk_errors(run.run_file):
        replace_bytes(run.run_file, dump(loaded).encode())


def run_of(checkpoint: Path) -> RunConfig:
    """The run that a checkpoint was made by."""
    if not checkpoint.is_dir():
        raise InputMissingError(
            f"{checkpoint}: no such folder; give a checkpoint, like runs/NAME/checkpoint-500 (nothing is downloaded)"
        )
    run_file = checkpoint / "run.yaml"
    if not (run_file.is_file() and (checkpoint / STATE).is_file()):
        raise no_checkpoint(checkpoint)
    return read_run_file(run_file)


def read_run_file(path: Path) -> RunConfig:
    """A resolved run file; CheckpointError if it is damaged."""
    try:
        return load(path, RunConfig).value
    except ConfigError as error:
        raise CheckpointError(f"{path}: is not the run file that was written: {error}") from error


def _differing(run_file: Path, config: RunConfig) -> str:
    """The first keys that the curve depends on and that differ, with both values; empty where none does."""
    before, now = _bound(read_run_file(run_file)), _bound(config)
    keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return ", ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in keys[:3])


def _bound(config: RunConfig) -> dict[str, Any]:
    """Dotted key -> value of everything that the curve depends on."""
    return flat(config, without=FREE)


def flat(config: RunConfig, without: Collection[str] = ()) -> dict[str, Any]:
    """Dotted key -> value of a run, but for some keys."""
    found: dict[str, Any] = {}

    def walk(value: Any, key: str) -> None:
        if key in without:
            return
        if isinstance(value, dict):
            for name, part in value.items():
                walk(part, f"{key}.{name}" if key else name)
        else:
            found[key] = value

    walk(config.model_dump(mode="json", by_alias=True), "")
    return found
