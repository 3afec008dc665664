"""A file of JSON lines that a resumed run takes back to where its checkpoint left it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instar.checkpoint.lease import must_hold
from instar.core.files.disk import disk_errors, write_all
from instar.core.files.durable import sync_file
from instar.core.files.plain import open_plain


class Lines:
    """Appends objects, each in one write; `length` is what a checkpoint remembers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = 0

    def cut(self) -> None:
        """Drop what lies past `length`: lines of steps that are about to be made again."""
        with disk_errors(self.path), open_plain(self.path, "ab") as file:
            self.length = min(self.length, file.tell())
            file.truncate(self.length)

    def synced_length(self) -> int:
        """Bytes of the file, once they are on the disk: a checkpoint may not remember more than a power cut leaves."""
        if self.path.exists():
            with disk_errors(self.path):
                sync_file(self.path)
        return self.length

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one object; DiskError if the disk does not take the whole line, OutputError if the run is lost."""
        must_hold(self.path.parent)
        line = json.dumps(_finite(record)).encode() + b"\n"
        with disk_errors(self.path, needed=len(line)), open_plain(self.path, "ab", buffering=0) as file:
            write_all(file, line)
        self.length += len(line)


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: a number that is not finite becomes null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()
    }
