"""Arguments as plain values: dicts, JSON text, a JSON file, one line for a tracker."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from instar.api.arguments.flat import TrainingArguments


class Written:
    """How arguments are written down; tokens never are."""

    def to_dict(self: Any) -> dict[str, Any]:
        """Every field as a plain value; a token is replaced by its name in angle brackets."""
        return {
            field.name: f"<{field.name.upper()}>"
            if field.name.endswith("_token")
            else plain(field.name, getattr(self, field.name))
            for field in fields(self)
            if field.init
        }

    def to_json_file(self, path: str | os.PathLike[str]) -> None:
        """Write what `from_json_file` reads back as equal arguments; values of other types are written as text."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2, default=str) + "\n", encoding="utf-8")

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `to_json_file` wrote; tokens are unset. TypeError and ArgumentError as the constructor."""
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**{name: value for name, value in values.items() if not _is_hidden(name, value)})

    def __str__(self) -> str:
        lines = [f"{name}={value!r},\n" for name, value in sorted(self.to_dict().items())]
        return f"{type(self).__name__}(\n{''.join(lines)})"

    __repr__ = __str__

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = Written.__repr__  # type: ignore[method-assign]  # else `dataclass` writes one that shows tokens


def _is_hidden(name: str, value: Any) -> bool:
    return name.endswith("_token") and value == f"<{name.upper()}>"


def plain(name: str, value: Any) -> Any:
    """A value that JSON has, where there is one."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [plain(name, entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: plain(str(key), entry) for key, entry in value.items()}
    if name == "parallelism_config" and value is not None:
        return {key: entry for key, entry in vars(value).items() if key.endswith("_size")}
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value).removeprefix("torch.")
    return value.to_dict() if hasattr(value, "to_dict") and not isinstance(value, type) else value


def from_transformers(arguments: Any) -> "TrainingArguments":
    """Our arguments with the values of a `transformers.TrainingArguments`, or of anything with its attributes.

    What the object has beyond them (fields of a subclass) is kept as attributes. ArgumentError for values that
    cannot be used here.
    """
    from instar.api.arguments.flat import TrainingArguments
    from instar.api.arguments.seq2seq import Seq2SeqTrainingArguments

    if isinstance(arguments, TrainingArguments):
        return arguments
    ours = Seq2SeqTrainingArguments if hasattr(arguments, "predict_with_generate") else TrainingArguments
    known = {field.name: field for field in fields(ours)}
    values = {name: getattr(arguments, name) for name in known if hasattr(arguments, name)}
    if not values:
        advice = "; write TrainingArguments(**args)" if isinstance(arguments, dict) else ""
        raise TypeError(f"args: wanted TrainingArguments; got {type(arguments).__name__}{advice}")
    if values.get("fsdp") is None:
        values.pop("fsdp_config", None)
    translated = ours(**{name: _taken(name, value) for name, value in values.items()})
    theirs = [field.name for field in fields(arguments)] if hasattr(arguments, "__dataclass_fields__") else []
    for name in theirs:
        if name not in known and not hasattr(translated, name):
            setattr(translated, name, getattr(arguments, name))
    return translated


def _taken(name: str, value: Any) -> Any:
    return value if name in ("parallelism_config", "generation_config") else plain(name, value)
