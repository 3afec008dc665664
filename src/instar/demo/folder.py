"""The demo's folder: its owner, and what an interrupted demo resumes from."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instar.core.errors import OutputError
from instar.core.files.disk import disk_errors
from instar.core.files.durable import replace_bytes

MARKER = "demo.json"
_PARTS = (
    "cache",
    "letters",
    "letters-twin",
    "dna",
    "splice",
    "splice-fresh",
    "speech",
    "adaptive",
    "uniform",
    "probed-adaptive",
    "probed-uniform",
    "browser.html",
    "logs",
    "report.html",
    "demo.png",
)
"""All that a demo puts beside its marker; nothing else in the folder is ever touched."""


@dataclass
class DemoFolder:
    """A folder that is known to be a demo's; `notes` outlive the process."""

    path: Path
    notes: dict[str, Any] = field(default_factory=dict)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def note(self, **values: Any) -> None:
        """Remember values, for the demo that resumes this one after an interruption."""
        self.notes |= values
        marker = self.path / MARKER
        with disk_errors(marker):
            replace_bytes(marker, json.dumps({"folder": "instar demo", **self.notes}).encode())


def claim(path: Path, plan: str) -> tuple[DemoFolder, str]:
    """The folder, and how it was found: "new", "resumed" (a demo of the same plan was interrupted) or "replaced".

    OutputError if the folder holds anything and is not a demo's: then nothing in it is touched.
    """
    held = _notes(path)
    try:
        if held is not None and held.get("plan") == plan and not held.get("done"):
            return DemoFolder(path, {name: value for name, value in held.items() if name != "folder"}), "resumed"
        if held is not None:
            for name in _PARTS:
                _remove(path / name)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}; choose another --output") from error
    folder = DemoFolder(path)
    folder.note(plan=plan)
    (path / "logs").mkdir(exist_ok=True)
    return folder, "new" if held is None else "replaced"


def _notes(path: Path) -> dict[str, Any] | None:
    """What the demo in the folder noted; None where there is nothing in it."""
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path}: is a file; choose another --output")
    if not path.is_dir() or not any(path.iterdir()):
        return None
    try:
        notes = json.loads((path / MARKER).read_bytes())
    except (OSError, ValueError):
        notes = None
    if not isinstance(notes, dict) or notes.get("folder") != "instar demo":
        raise OutputError(
            f"{path}: holds files, and is not the folder of a demo; nothing in it was touched; choose another --output"
        )
    return notes


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
