"""`report`: a run in pictures."""

from pathlib import Path

from instar.report import build_report


def report(run_folder: Path) -> Path:
    """Write the figures and the page of a run; returns the page."""
    return build_report(run_folder).page
