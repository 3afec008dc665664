"""`report`: a run in pictures."""

from collections.abc import Callable
from pathlib import Path

from instar.checkpoint.protocol import damage
from instar.core.errors import InputMissingError
from instar.core.rundir import RunFolder
from instar.report import build_report


def report(run_folder: Path, annotation: Path | None = None, log: Callable[[str], None] = lambda _: None) -> Path:
    """Write the figures and the page of a run; returns the page.

    `annotation` (GFF3, GTF or BED) adds the masking values of its classes over time, to a run that keeps such values;
    `log` gets which of its features were skipped, and which checkpoints are damaged.
    """
    from instar.run.masking import FIGURES

    if not run_folder.is_dir():
        raise InputMissingError(f"{run_folder}: no such folder; give a run folder, like runs/NAME")
    damaged = {path.name: reason for _, path in RunFolder(run_folder).checkpoints() if (reason := damage(path))}
    for reason in damaged.values():
        log(reason)
    if annotation is None and not (run_folder / FIGURES).is_file():
        return build_report(run_folder, damaged=damaged).page
    from instar.tracks.masking_report import store_facts

    return build_report(run_folder, store_facts(run_folder, annotation, log), damaged).page
