"""A cell as a label: read by its declared type, refused where that leaves a doubt."""

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

Label = str | float | tuple[str, ...] | tuple[bool, ...] | None
LabelKind = Literal["class", "many", "multi_hot", "number"]
LabelType = Literal["text", "integer"]

LARGEST = 3.4028234663852886e38
"""The largest number that float32 holds."""
SMALLEST = 1.401298464324817e-45
"""The smallest positive one."""
NOT_LABELLED = "-1"
"""What stands in place of a class that is not known, in columns of numbered classes."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MOST_DIGITS = 18
_FLAGS = {"0": False, "1": True}


def label_text(value: object) -> str:
    """A cell as `label_missing` spells it: null for a cell without a value, else its text."""
    return "null" if value is None else str(value).strip()


def number_of(value: object) -> Decimal | None:
    """The number that a value is or spells, in plain decimal notation; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    text = str(value).strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except ArithmeticError:  # an exponent of more digits than there is room for
        return None


def read_number(value: object) -> float:
    """A number to be predicted; ValueError if it is none, or none that float32 holds."""
    number = number_of(value)
    if number is None:
        raise ValueError(f"is to be a finite number; got {shown(value)}")
    size = number.copy_abs()
    if size > Decimal(LARGEST) or 0 < size < Decimal(SMALLEST):
        raise ValueError(f"is to be a number that float32 holds ({SMALLEST:.1e} to {LARGEST:.1e}); got {shown(value)}")
    return float(number)


def read_class(value: object, label_type: LabelType | None, names: Sequence[str] | None) -> str:
    """The name of a class; `names` are those that the file declares, by number. ValueError names what is wrong."""
    if names is not None:
        return _declared(value, names)
    if label_type == "integer":
        number = number_of(value)
        if number is None or number.adjusted() > _MOST_DIGITS or number != number.to_integral_value():
            raise ValueError(f"is to be a whole number (label_type: integer); got {shown(value)}")
        return str(int(number))
    if label_type is None and isinstance(value, str) and _is_list(value):
        raise ValueError(
            f"is to be one class; got a list written as text, {shown(value)}; set label_kind: multi_hot if it "
            "holds 0 and 1, or label_type: text if the whole text is a class"
        )
    if isinstance(value, float | Decimal):
        raise ValueError(
            f"is to be a class (text or a whole number); got the number {shown(value)}; set label_type: integer to "
            "read whole numbers as classes, or label_kind: number to learn the number itself"
        )
    if isinstance(value, list | tuple):
        raise ValueError(
            f"is to be one class; got the list {shown(value)}; set label_kind: many for a list of classes, or "
            "label_kind: multi_hot for a list of 0 and 1, one for each class"
        )
    if not isinstance(value, str | int) or not str(value).strip():
        raise ValueError(
            f"is to be a class (text or a whole number); got {shown(value)}; label_missing: "
            f"[{json.dumps(label_text(value))}] leaves out rows without a label"
        )
    return str(value).strip()


def _declared(value: object, names: Sequence[str]) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < len(names):
            return names[value]
        if str(value) == NOT_LABELLED:
            return NOT_LABELLED
    elif isinstance(value, str) and value in names:
        return value
    raise ValueError(f"is to be one of the {len(names)} classes that the file declares; got {shown(value)}")


def read_many(
    value: object, separator: str, label_type: LabelType | None, names: Sequence[str] | None
) -> tuple[str, ...]:
    """The names of several classes, each once."""
    parts = value
    if isinstance(value, str):
        if _is_list(value):
            raise ValueError(
                f"is a list written as text, {shown(value)}; write the classes between label_separator "
                f"('{separator}'), or set label_kind: multi_hot if it holds 0 and 1"
            )
        parts = value.split(separator)
    if not isinstance(parts, list | tuple):
        raise ValueError(f"is to be a list of classes; got {shown(value)}")
    if any(isinstance(part, float | bool) for part in parts):
        raise ValueError(
            f"is to be a list of classes; got {shown(value)}; set label_kind: multi_hot for a list of 0 and 1, one for "
            "each class"
        )
    found = [read_class(part, label_type, names) for part in parts if str(part).strip()]
    return tuple(dict.fromkeys(found))


def read_multi_hot(value: object, separator: str) -> tuple[bool, ...]:
    """Whether each class holds, from a list of 0 and 1 (true and false), which may be written as text."""
    parts: object = value
    if isinstance(value, str):
        parts = value.strip().removeprefix("[").removesuffix("]").split(separator)
    if not isinstance(parts, list | tuple) or not parts:
        raise ValueError(f"is to be a list of 0 and 1, one for each class; got {shown(value)}")
    flags = [_flag(part) for part in parts]
    if None in flags:
        raise ValueError(f"is to be a list of 0 and 1, one for each class; got {shown(value)}")
    return tuple(bool(flag) for flag in flags)


def _flag(part: object) -> bool | None:
    if isinstance(part, float) and math.isfinite(part) and part == int(part):
        part = int(part)
    return part if isinstance(part, bool) else _FLAGS.get(str(part).strip())


def _is_list(text: str) -> bool:
    """Whether a cell looks like a list that some program wrote."""
    stripped = text.strip()
    return stripped.startswith("[") and stripped.endswith("]")


def shown(value: object) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
