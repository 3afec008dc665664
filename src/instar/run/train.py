"""`train`: from a run file to a run folder."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from instar.checkpoint import manifest, protocol
from instar.checkpoint.lineage import STATE, no_checkpoint
from instar.checkpoint.lock import RunLock
from instar.config.load import Loaded, load
from instar.core.errors import (
    CheckpointError,
    InputMissingError,
    InstarError,
    InterruptedRunError,
    PreemptedError,
    UsageError,
)
from instar.core.files.json_files import read_lines
from instar.core.limits import named
from instar.core.rundir import RunFolder
from instar.objective.figures import OwnMetric
from instar.run.config import RunConfig
from instar.run.folder import must_be_free, must_go_on_from, run_folder, write_run_file
from instar.run.prepare import Looks, Run, prepare
from instar.run.ranks import agree_on_checkpoint, agree_on_run
from instar.trainer import Callback, Runtime
from instar.trainer.agreement import together
from instar.trainer.callbacks.signals import INTERRUPTED, PREEMPTED
from instar.trainer.parallel.processes import Processes


def train(
    run_file: Path,
    overrides: Sequence[str] = (),
    *,
    resume: str = "auto",
    output: Path | None = None,
    extra: Sequence[Callback] = (),
    metrics: Mapping[str, OwnMetric] | None = None,
) -> dict[str, Any]:
    """Train what the run file says, from where the run folder is; returns what came of it.

    `metrics` are figures of training of one's own, by name: functions of a micro-batch's logits and targets that give a
    sum and a count, which are added up over micro-batches, steps and ranks; they change no curve.

    Raises PreemptedError or InterruptedRunError once it has saved, when a signal asked it to leave.
    """
    loaded, runtime = _begun(run_file, overrides)
    folder = run_folder(run_file, loaded.value, output)
    try:
        run = _trained(loaded, folder, runtime, resume=resume, looks=Looks(extra, metrics or {}))
        _leave_if_asked(run, folder)
        summary = _summary(run, folder) if runtime.is_main else {}
    except (PreemptedError, InterruptedRunError) as error:
        runtime.leave(error.exit_code)
        raise
    except BaseException as error:
        code = getattr(named(error) or error, "exit_code", InstarError.exit_code)
        is_first, code = runtime.failed(code)
        runtime.leave(code, together=False)
        if not is_first:
            raise SystemExit(code) from None  # another rank tells
        raise
    runtime.leave(0)
    return summary


def _begun(run_file: Path, overrides: Sequence[str]) -> tuple[Loaded[RunConfig], Runtime]:
    """The run file, read, among the ranks of the run; what is wrong with it is told by one of them."""
    try:
        loaded = load(run_file, RunConfig, overrides)
        train = loaded.value.train
        return loaded, Runtime.start(train.device, train.precision, train.parallel)
    except InstarError as error:
        is_first, code = Processes.before().failed(error.exit_code)
        if is_first:
            raise
        raise SystemExit(code) from None


def _trained(loaded: Loaded[RunConfig], folder: RunFolder, runtime: Runtime, *, resume: str, looks: Looks) -> Run:
    """The run at its end. Nothing is written to its folder before all of its input was read and found good.

    Ranks compare their input before they exchange anything of which one could have more than another.
    """
    console = Console(stderr=True, quiet=not runtime.is_main, highlight=False, soft_wrap=True)

    def prepared(resume: str = resume) -> tuple[Run, Path | None]:
        start = _start(folder, resume, runtime, console)
        if start is not None:
            for line in must_go_on_from(start, loaded.value):
                console.print(f"{line}: the content is the same")
        return prepare(loaded.value, folder, runtime, start, console=console, looks=looks), start

    agree_on_run(loaded.value, resume, runtime)
    made = None if runtime.any(folder.path.exists()) else prepared()
    held: AbstractContextManager[None] = (
        RunLock.acquire(folder, tell=console.print) if runtime.is_main else nullcontext()
    )
    with held:
        if runtime.is_main:
            must_be_free(folder, loaded)
            protocol.clean(folder)
        runtime.barrier()
        if made is None or runtime.any(bool(folder.checkpoints())):
            made = prepared()
        run, start = made
        if runtime.is_main:
            _set_aside_after(start, folder, console)
            write_run_file(folder, loaded)
        runtime.barrier()
        run.fit()
        while run.goes_on:
            del run, made  # the next stage has a network of its own
            made = run, _ = prepared("auto")
            run.fit()
    return run


def _start(folder: RunFolder, resume: str, runtime: Runtime, console: Console) -> Path | None:
    """The checkpoint to go on from: the main process chooses it, and every rank has to have the same one."""
    chosen = together(runtime, lambda: _chosen(folder, resume, console) if runtime.is_main else None)
    name = runtime.from_main(b"" if chosen is None else chosen.name.encode()).decode()
    start = chosen if runtime.is_main or not name else _own(folder, resume, name)
    agree_on_checkpoint(start, runtime, is_verified=runtime.is_main)
    return start


def _own(folder: RunFolder, resume: str, name: str) -> Path:
    """Where this rank has the checkpoint that the main process chose, whether or not its folder lists it."""
    return folder.path / name if resume == "auto" else Path(resume)


def _chosen(folder: RunFolder, resume: str, console: Console) -> Path | None:
    """The checkpoint to go on from, whole; None: the run begins."""
    if resume == "auto":
        return protocol.newest(folder, warn=console.print)
    if resume == "never":
        if folder.checkpoints():
            raise UsageError(
                f"--resume never: {folder.path} holds checkpoints, and a run never overwrites another; "
                "choose another --output for a run of its own, or leave --resume out to go on"
            )
        return None
    path = Path(resume)
    if not path.is_dir():
        raise InputMissingError(f"--resume: wanted auto, never or a checkpoint folder; there is no folder {path}")
    if not any((path / name).is_file() for name in (STATE, manifest.NAME)):
        raise no_checkpoint(path)
    protocol.verify(path)
    return path


def _set_aside_after(start: Path | None, folder: RunFolder, console: Console) -> None:
    """A run that goes on from a checkpoint of its own leaves later ones behind."""
    if start is None or start.parent.resolve() != folder.path.resolve():
        return
    step = next((number for number, path in folder.checkpoints() if path.name == start.name), None)
    for left in [] if step is None else protocol.set_aside_after(folder, step):
        console.print(f"{left}: lies after {start.name}; moved to quarantine")


_SUMMED_UP = (
    *("loss", "perplexity", "masked_accuracy", "accuracy", "f1", "matthews", "spearman"),
    *("baseline_loss", "baseline_accuracy"),
)


def _leave_if_asked(run: Run, folder: RunFolder) -> None:
    if run.state.is_spent() and not run.state.has_next_stage:
        return  # asked in the last step: the run is done
    place = f"saved at step {run.state.step} in {folder.path}; the same command goes on"
    if run.state.stop_reason == PREEMPTED:
        raise PreemptedError(f"asked to leave (SIGTERM): {place}")
    if run.state.stop_reason == INTERRUPTED:
        raise InterruptedRunError(f"interrupted: {place}")


def _summary(run: Run, folder: RunFolder) -> dict[str, Any]:
    """What came of the run: counters, the last scores of each split, and the newest checkpoint."""
    checkpoints = folder.checkpoints()
    if not checkpoints:
        raise CheckpointError(f"{folder.path}: the run ended without a checkpoint; is another process deleting there?")
    summary: dict[str, Any] = {
        "run": str(folder.path),
        "checkpoint": str(checkpoints[-1][1]),
        **vars(run.state.counters),
    }
    if run.best is not None and (best := folder.checkpoint(run.best[0])).is_dir():
        summary |= {"best_checkpoint": str(best), "best_score": run.best[1]}
    summary["stopped"] = run.state.stop_reason or "budget spent"
    last = {record["split"]: record for record in read_lines(folder.metrics)}
    for split, record in last.items():
        for name in _SUMMED_UP:
            if record.get(name) is not None:
                summary[f"{split}_{name}"] = record[name]
    return summary
