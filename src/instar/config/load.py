"""A run file and dotted overrides to one typed value that knows where each part came from."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from instar.config.base import RESOLVED
from instar.config.faults import problems_of
from instar.config.shape import Shape, make_explicit
from instar.config.tree import COMMAND_LINE, MAX_BYTES, Node, Reader
from instar.core.errors import ConfigError, InputMissingError

T = TypeVar("T")


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A value, where each of its parts came from, and what it was read from."""

    value: T
    origins: dict[str, str]
    """Dotted key -> "default", "FILE:LINE" or "command line", for every key that holds no others."""
    source: str
    """The file's name, from the current folder where it lies in it, or "text"."""


def load(
    path_or_text: Path | str, model: type[T], overrides: Sequence[str] = (), *, is_resolved: bool = False
) -> Loaded[T]:
    """Read a file (a `Path`) or a YAML text (a `str`) as `model`, then `key.key=value` overrides.

    All faults of the text and of the overrides come in one ConfigError, one line each. A missing or
    unreadable file is an InputMissingError. Types are strict: text is never taken for a number. Paths of
    a file that `is_resolved` stay as they are where they name a user or a variable that is not known here.
    """
    source, text = _text_of(path_or_text)
    reader = Reader(source)
    root = reader.read(text)
    problems = reader.problems
    shape = Shape.of(model)
    if root.value is None:
        root.value = {}
    for override in overrides:
        problems += _apply(root, override)
    make_explicit(root, shape)
    adapter = TypeAdapter(model)
    value: T | None = None
    try:
        plain = root.plain()
        respelt = getattr(model, "respelt", None)
        if isinstance(plain, dict) and respelt is not None:
            plain = respelt(plain)  # other words for the same
        value = adapter.validate_json(json.dumps(plain), strict=True, context=RESOLVED if is_resolved else None)
    except ValidationError as error:
        problems += problems_of(error.errors(include_url=False), root, shape)
    if problems or value is None:
        raise ConfigError(sorted(problems, key=lambda problem: _line(problem, source)))
    plain = adapter.dump_python(value, mode="json", by_alias=True)
    return Loaded(value, dict(_origins(plain, root)), source)


def _line(problem: str, source: str) -> float:
    """The order of problems: as in the file, then the command line."""
    number = problem.removeprefix(f"{source}:").partition(":")[0]
    return int(number) if number.isdecimal() else float("inf")


def _text_of(path_or_text: Path | str) -> tuple[str, str]:
    if isinstance(path_or_text, str):
        return "text", path_or_text
    name = str(path_or_text)
    if path_or_text.is_absolute() and path_or_text.is_relative_to(Path.cwd()):
        name = str(path_or_text.relative_to(Path.cwd()))
    try:
        with path_or_text.open("rb") as file:
            head = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputMissingError(f"{name}: wanted a run file; {error.strerror or error}") from error
    if len(head) > MAX_BYTES:
        raise ConfigError([f"{name}: wanted at most {MAX_BYTES} bytes; data belongs into files of its own"])
    try:
        return name, head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{name}:{line}: wanted UTF-8 text; got the byte 0x{head[error.start]:02x}"]) from error


def _apply(root: Node, override: str) -> list[str]:
    """Set one `key.key=value` in the tree; the problems that it has."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        return [f"{COMMAND_LINE}: {override}: wanted KEY=VALUE, like train.optimizer.lr=1e-4; got {override!r}"]
    reader = Reader(f"{COMMAND_LINE}: {dotted.strip()}", numbered=False)
    new = reader.read(text) if text.strip() else Node(None, COMMAND_LINE)
    if reader.problems:
        return reader.problems
    _mark(new)
    node = root
    for depth, key in enumerate(keys):
        is_last = depth == len(keys) - 1
        below = Node({}, COMMAND_LINE) if not is_last else new
        if isinstance(node.value, list) and key.isdecimal() and int(key) < len(node.value):
            node.value[int(key)] = below if is_last else node.value[int(key)]
            node = node.value[int(key)]
        elif isinstance(node.value, dict):
            held = node.value.get(key)
            keeps = held is not None and held.value is not None and not is_last
            node.value[key] = held if keeps else below
            node = node.value[key]
        else:
            above = ".".join(keys[:depth])
            return [f"{COMMAND_LINE}: {dotted}: wanted a key that holds others; {above} is set at {node.origin}"]
    return []


def _mark(node: Node) -> None:
    node.origin = COMMAND_LINE
    children = node.value.values() if isinstance(node.value, dict) else node.value
    for child in children if isinstance(children, list) or isinstance(node.value, dict) else ():
        _mark(child)


def _origins(plain: Any, node: Node | None, key: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, origin) of every part of a resolved value that holds no others."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(plain, dict):
        children = list(plain.items())
    elif isinstance(plain, list) and any(isinstance(entry, dict | list) for entry in plain):
        children = list(enumerate(plain))
    if not children:
        yield key, node.origin if node is not None else "default"
    for name, child in children:
        below = node
        if node is not None and isinstance(node.value, dict):
            below = node.value.get(str(name))
        elif node is not None and isinstance(node.value, list) and isinstance(name, int) and name < len(node.value):
            below = node.value[name]
        yield from _origins(child, below, f"{key}.{name}" if key else str(name))
