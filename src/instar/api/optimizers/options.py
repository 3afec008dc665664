"""`optim_args`: "name=value,name=value", each value read as the type that its optimizer wants."""

from collections.abc import Callable, Mapping
from typing import Any

from instar.config.faults import guess

Option = Callable[[str], Any]
"""Reads one value from its text; ValueError says what was wanted."""

_TRUE, _FALSE = ("true", "1", "yes", "y", "t", "on"), ("false", "0", "no", "n", "f", "off")


def number(text: str) -> float:
    """A float."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("a number") from None


def whole(text: str) -> int:
    """An int."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("a whole number") from None


def flag(text: str) -> bool:
    """A bool: "False" is false."""
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise ValueError("true or false")


def word(*choices: str) -> Option:
    """One of `choices`, or with none any text."""

    def read(text: str) -> str:
        if choices and text not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text

    return read


def dtype(text: str) -> Any:
    """A torch dtype by its name: "bfloat16"."""
    import torch

    found = getattr(torch, text, None)
    if not isinstance(found, torch.dtype):
        raise ValueError("a dtype of torch, like bfloat16")
    return found


def split_options(text: str | Mapping[str, Any] | None) -> dict[str, str]:
    """The parts of "name=value, name=value"; ValueError for parts that are not so and names that come twice."""
    if isinstance(text, Mapping):
        return {str(name): str(value) for name, value in text.items()}
    found: dict[str, str] = {}
    problems = []
    for part in filter(None, (text or "").replace(" ", "").split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals and value) or "=" in value:
            problems.append(f"wanted name=value; got {part!r}")
        elif name in found:
            problems.append(f"{name} is given twice")
        found[name] = value
    if problems:
        raise ValueError("\n".join(f"optim_args: {problem}" for problem in problems))
    return found


def read_options(given: Mapping[str, str], known: Mapping[str, Option], optim: str) -> dict[str, Any]:
    """Every value as its type; ValueError that lists every name the optimizer does not know and every bad value."""
    found: dict[str, Any] = {}
    problems = []
    for name, text in given.items():
        if name not in known:
            takes = f"one of {', '.join(sorted(known))}" if known else "no option"
            problems.append(f"{optim} takes {takes}; got {name!r}{guess(name, known)}")
            continue
        try:
            found[name] = known[name](text)
        except ValueError as error:
            problems.append(f"{name}: wanted {error}; got {text!r}")
    if problems:
        raise ValueError("\n".join(f"optim_args: {problem}" for problem in problems))
    return found
