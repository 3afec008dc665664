"""Names in a run folder: the contract between training and everything after it."""

import re
from dataclasses import dataclass
from pathlib import Path

_CHECKPOINT = re.compile(r"checkpoint-([0-9]+)")


@dataclass(frozen=True)
class RunFolder:
    """Where each thing of a run lies; creates nothing."""

    path: Path

    @property
    def run_file(self) -> Path:
        """The resolved run: every value, and where it came from."""
        return self.path / "run.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: step, samples, tokens, seconds, split, name: value."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """Sample predictions on fixed evaluation rows, one JSON object a line."""
        return self.path / "samples.jsonl"

    @property
    def lock(self) -> Path:
        """Held while a run is alive; free as soon as its process is gone."""
        return self.path / ".lock"

    @property
    def holder(self) -> Path:
        """Host and process of the run that holds, or last held, the lock."""
        return self.path / ".holder.json"

    @property
    def stop_file(self) -> Path:
        """Put there by a person: the run saves and ends after the step."""
        return self.path / "stop"

    @property
    def save_file(self) -> Path:
        """Put there by a person: the run saves after the step."""
        return self.path / "save"

    @property
    def figures(self) -> Path:
        """Pictures, and the data of each as CSV."""
        return self.path / "figures"

    @property
    def report(self) -> Path:
        """The report, one page that needs no network."""
        return self.path / "report.html"

    def checkpoint(self, step: int) -> Path:
        """The checkpoint of a step: complete or absent, never half."""
        return self.path / f"checkpoint-{step}"

    def checkpoints(self) -> list[tuple[int, Path]]:
        """(step, folder) of every checkpoint, by step; the clock plays no part."""
        if not self.path.is_dir():
            return []
        found = [(_CHECKPOINT.fullmatch(entry.name), entry) for entry in self.path.iterdir() if entry.is_dir()]
        return sorted((int(match[1]), entry) for match, entry in found if match)
