"""YAML 1.2 text to a tree of nodes that know their lines.

Only plain data: tags, anchors and aliases, duplicate keys, keys that are not text, more than 1 MiB
and more than 32 levels are faults. Scalars follow the YAML 1.2 core schema: `2e-4` is a number,
`no` is text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
COMMAND_LINE = "command line"

_NULL = re.compile(r"(?:null|Null|NULL|~|)")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_MAX_DIGITS = 400
_SHOWN = 40
_INT64 = 1 << 63
_FLOAT32 = 3.4028234663852886e38


@dataclass
class Node:
    """A value and the location it was written at; `faulty` where a fault was already reported."""

    value: Any
    """A scalar, a dict of Nodes, or a list of Nodes."""
    origin: str
    """"FILE:LINE", "command line" or "default"."""
    faulty: bool = False

    def plain(self) -> Any:
        """The value without its locations."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass
class Reader:
    """Reads one text; `problems` collects every fault, one line each."""

    name: str
    """What the text is called in messages: a file name, or "command line"."""
    problems: list[str] = field(default_factory=list)
    numbered: bool = True
    """Whether locations carry line numbers (the command line has none)."""

    def origin(self, line: int) -> str:
        """How a location in this text is named."""
        return f"{self.name}:{line}" if self.numbered else self.name

    def read(self, text: str) -> Node:
        """The tree of the text; an empty text is an empty mapping."""
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            self.problems.append(f"{self.name}: wanted at most {MAX_BYTES} bytes; data belongs into files of its own")
            return Node({}, self.origin(1), faulty=True)
        try:
            return self._document(iter(YAML(typ="safe", pure=True).parse(text)))
        except YAMLError as error:
            mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
            line = mark.line + 1 if mark is not None else 1
            reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "this text"
            self.problems.append(f"{self.origin(line)}: wanted YAML; {reason}")
            return Node({}, self.origin(line), faulty=True)

    def _document(self, events: Iterator[Any]) -> Node:
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent, StreamStartEvent

        root: Node | None = None
        for event in events:
            if isinstance(event, StreamStartEvent):
                continue
            if isinstance(event, StreamEndEvent):
                break
            if root is not None:
                self._fault(event, "wanted one document; a second one starts here")
                break
            if isinstance(event, DocumentStartEvent):
                root = self._node(next(events), events, depth=1)
                next(events)  # the document's end
        return root if root is not None else Node({}, self.origin(1))

    def _fault(self, event: Any, what: str) -> None:
        self.problems.append(f"{self.origin(event.start_mark.line + 1)}: {what}")

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

        origin = self.origin(event.start_mark.line + 1)
        if isinstance(event, AliasEvent):
            self._fault(event, f"wanted a value; got the alias '*{event.anchor}': write the value out")
            return Node(None, origin, faulty=True)
        if depth > MAX_DEPTH:
            raise self._too_deep(event)
        faulty = self._adorned(event)
        if isinstance(event, MappingStartEvent):
            return Node(self._mapping(events, depth), origin, faulty)
        if isinstance(event, SequenceStartEvent):
            return Node(self._sequence(events, depth), origin, faulty)
        if not isinstance(event, ScalarEvent):
            raise TypeError(f"an event that no node starts with: {event!r}")
        return self._scalar(event, origin, faulty=faulty)

    def _too_deep(self, event: Any) -> Exception:
        from ruamel.yaml.error import MarkedYAMLError

        return MarkedYAMLError(problem=f"got more than {MAX_DEPTH} levels", problem_mark=event.start_mark)

    def _adorned(self, event: Any) -> bool:
        """Report an anchor or a tag; True where there was one."""
        tag = str(event.tag) if getattr(event, "tag", None) is not None else ""
        if event.anchor is not None:
            self._fault(event, f"wanted a plain value; got the anchor '&{event.anchor}': anchors are not read")
        if tag not in ("", "!"):
            self._fault(event, f"wanted a plain value; got the tag {tag!r}: tags are not read")
        return event.anchor is not None or tag not in ("", "!")

    def _mapping(self, events: Iterator[Any], depth: int) -> dict[str, Node]:
        from ruamel.yaml.events import MappingEndEvent, ScalarEvent

        nodes: dict[str, Node] = {}
        for event in events:
            if isinstance(event, MappingEndEvent):
                break
            key = self._node(event, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(event, ScalarEvent):
                self._fault(event, "wanted a word as a key; got a list, a mapping or an alias")
            elif event.value in nodes:
                first = nodes[event.value].origin
                self._fault(event, f"{event.value}: wanted each key once; it is already at {first}")
            elif not key.faulty:
                value.origin = key.origin if isinstance(value.value, dict | list) else value.origin
                nodes[event.value] = value
        return nodes

    def _sequence(self, events: Iterator[Any], depth: int) -> list[Node]:
        from ruamel.yaml.events import SequenceEndEvent

        nodes = []
        for event in events:
            if isinstance(event, SequenceEndEvent):
                break
            nodes.append(self._node(event, events, depth + 1))
        return nodes

    def _scalar(self, event: Any, origin: str, *, faulty: bool) -> Node:
        text: str = event.value
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self._fault(event, "wanted Unicode text; got half of a surrogate pair")
            return Node(None, origin, faulty=True)
        is_plain = event.style is None and event.implicit[0]
        if not is_plain:
            return Node(text, origin, faulty)
        if len(text) > _MAX_DIGITS and _INT.fullmatch(text):
            self._fault(event, f"wanted a number of at most {_MAX_DIGITS} digits; got {len(text)}")
            return Node(None, origin, faulty=True)
        value = resolve(text)
        if isinstance(value, int | float) and not _is_in_range(value):
            self._fault(event, f"wanted a finite number of usual size; got {text[:_SHOWN]}")
            return Node(None, origin, faulty=True)
        return Node(value, origin, faulty)


def _is_in_range(value: float) -> bool:
    """Whether 64 bits hold a whole number, and 32 bits a fraction: networks are of float32."""
    return abs(value) < _INT64 if isinstance(value, int) else abs(value) <= _FLOAT32


def resolve(text: str) -> bool | int | float | str | None:
    """What an unquoted scalar means in the YAML 1.2 core schema."""
    infinite = _INFINITE.fullmatch(text)
    meanings: list[tuple[Any, Any]] = [
        (_NULL.fullmatch(text), None),
        (_TRUE.fullmatch(text), True),
        (_FALSE.fullmatch(text), False),
        (_NAN.fullmatch(text), float("nan")),
        (infinite, float("-inf") if infinite and infinite[1] == "-" else float("inf")),
    ]
    for match, meaning in meanings:
        if match is not None:
            return meaning  # type: ignore[no-any-return]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
