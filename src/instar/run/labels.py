"""What a classifier's answers are called; a checkpoint carries it, so that it can be used without its data."""

from dataclasses import dataclass
from pathlib import Path

from instar.core.errors import CheckpointError
from instar.core.files.json_files import read_json, write_json
from instar.data.labels import LabelKind

LABELS = "labels.json"
_KINDS: tuple[LabelKind, ...] = ("none", "class", "many", "number")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a run's training data."""

    kind: LabelKind
    names: tuple[str, ...] | None
    """Of the classes, by number; None where labels are numbers, or where there are none."""

    @property
    def num_outputs(self) -> int | None:
        """Outputs of a classifier's head; None where the data have no labels."""
        if self.kind == "none":
            return None
        return 1 if self.names is None else len(self.names)

    def write(self, folder: Path) -> None:
        """Put them beside a checkpoint's weights."""
        write_json(folder / LABELS, {"kind": self.kind, "names": self.names})

    @classmethod
    def read(cls, folder: Path) -> "Labels":
        """Those of a checkpoint; CheckpointError if the file is missing or is not what was written."""
        value = read_json(folder / LABELS)
        kind, names = (value.get("kind"), value.get("names")) if isinstance(value, dict) else (None, None)
        are_names = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
        if kind not in _KINDS or not are_names:
            raise CheckpointError(f"{folder / LABELS}: wanted a kind of label and names; got {str(value)[:60]}")
        return cls(kind=kind, names=None if names is None else tuple(names))
