"""The run folder: where it is, whose it is, and what it holds beside the checkpoints."""

from pathlib import Path

from instar.checkpoint.lineage import STATE, no_checkpoint
from instar.config.dump import dump
from instar.config.load import Loaded, load
from instar.core.errors import CheckpointError, ConfigError, InputMissingError, OutputError
from instar.core.files.disk import disk_errors
from instar.core.files.durable import replace_bytes
from instar.core.rundir import RunFolder
from instar.run.config import RunConfig
from instar.run.identity import compare


def run_folder(run_file: Path, config: RunConfig, output: Path | None) -> RunFolder:
    """Where a run's files go: the command line's word, the run file's, or runs/NAME for NAME.yaml."""
    return RunFolder(output or Path(config.output or f"runs/{run_file.stem}"))


def must_be_free(run: RunFolder, loaded: Loaded[RunConfig]) -> None:
    """OutputError if the folder holds a run that trained otherwise, or the user's own run file; writes nothing."""
    if run.run_file.is_file():
        source = Path(loaded.source)
        if source.is_file() and source.samefile(run.run_file) and not _is_resolved(source):
            raise OutputError(
                f"{source}: the resolved run would be written over it; choose another --output, or give the "
                "file another name"
            )
        newest = next((path for _, path in reversed(run.checkpoints())), None)
        others, _ = compare(read_run_file(run.run_file), loaded.value, newest)
        if others:
            raise OutputError(
                f"{run.path}: holds another run ({', '.join(others[:3])}); choose another --output, and this one stays"
            )
    elif run.checkpoints():
        raise OutputError(f"{run.path}: holds checkpoints and no run.yaml; choose another --output")


def _is_resolved(run_file: Path) -> bool:
    """Whether a run file says all that a run folder's says, and nothing beside; comments at the ends of lines aside."""
    lines = run_file.read_text(encoding="utf-8"), dump(load(run_file, RunConfig, is_resolved=True))
    first, second = ([line.partition("  # ")[0] for line in text.splitlines()] for text in lines)
    return first == second


def must_go_on_from(checkpoint: Path, config: RunConfig) -> list[str]:
    """What lies elsewhere now, with the same content; CheckpointError for a checkpoint of a run that trained otherwise.

    Raises InputMissingError or DataError where nothing readable is at a new place.
    """
    others, moved = compare(read_run_file(checkpoint / "run.yaml"), config, checkpoint)
    if others:
        raise CheckpointError(
            f"{checkpoint}: is of another run ({', '.join(others[:3])}); resume with the same values, or begin a new "
            f"run with model: {{from: {checkpoint}}}"
        )
    return moved


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
        return load(path, RunConfig, is_resolved=True).value
    except ConfigError as error:
        raise CheckpointError(f"{path}: is not the run file that was written: {error}") from error
