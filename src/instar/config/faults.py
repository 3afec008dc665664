"""Pydantic's complaints in plain words: `FILE:LINE: key: what was wanted; what came; a guess`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from typing import Any, get_args, get_origin

from instar.config.base import KeyFaults
from instar.config.shape import Shape
from instar.config.tree import Node

_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "none_required": "null",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}
_MAPPING = ("dict_type", "mapping_type", "model_type", "model_attributes_type", "dataclass_type")
_MAX_SHOWN = 60


@dataclass(frozen=True)
class _Location:
    key: str
    node: Node | None
    """What the user wrote there, if anything."""
    holder: Node
    """The innermost mapping or list around it that the user wrote."""
    shape: Shape
    around: Shape
    """The shape of the mapping that holds the last key."""
    is_faulty: bool


def problems_of(errors: Iterable[Mapping[str, Any]], root: Node, shape: Shape) -> list[str]:
    """One line for each key at fault, in the order of the model; faults already reported are left out."""
    lines: dict[tuple[str, str], list[str]] = {}
    for error in errors:
        location = _locate(error["loc"], root, shape)
        if location.is_faulty:
            continue
        if error["type"] == "union_tag_invalid":
            location = _tag_location(location, error["ctx"]["tag"])
        for at, text in _complaints(error, location):
            texts = lines.setdefault(((at.node or at.holder).origin, at.key), [])
            if text not in texts:
                texts.append(text)
    return [": ".join(filter(None, (*where, _joined(texts)))) for where, texts in lines.items()]


def _complaints(error: Mapping[str, Any], location: _Location) -> Iterator[tuple[_Location, str]]:
    """Complaints with their locations: one error may be about several keys."""
    raised = error.get("ctx", {}).get("error")
    if not isinstance(raised, KeyFaults):
        yield location, _describe(error, location)
        return
    for fault in raised.faults:
        key, _, text = fault.partition(": ")
        node = location.node
        for part in key.split("."):
            node = _child(node, part)
        below = replace(location, key=f"{location.key}.{key}".lstrip("."), node=node)
        yield (below if below.node is not None else replace(below, node=location.node)), text


def guess(word: object, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    near = get_close_matches(str(word), list(choices), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(choices: Iterable[object]) -> str:
    """`'a', 'b' or 'c'`."""
    *most, last = [repr(choice) for choice in choices] or ["nothing"]
    return f"{', '.join(most)} or {last}" if most else last


def shown(value: object) -> str:
    """What came, short enough for one line."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _joined(texts: Sequence[str]) -> str:
    """Members of a union that all refused one value become `wanted a or b; got c`."""
    if len(texts) == 1 or not all(text.startswith("wanted ") and "; got " in text for text in texts):
        return "; ".join(texts)
    wanted = [text.removeprefix("wanted ").partition("; got ")[0] for text in texts]
    return f"wanted {' or '.join(wanted)}; got {texts[0].partition('; got ')[2]}"


def _locate(loc: Sequence[str | int], root: Node, shape: Shape) -> _Location:
    keys: list[str] = []
    node: Node | None = root
    holder, around, is_faulty = root, shape, root.faulty
    for part in loc:
        if shape.is_union:
            shape = shape.member(str(part))
            continue
        if part == "[key]":
            continue
        keys.append(str(part))
        around, shape = shape, shape.at(part)
        holder = node if node is not None else holder
        node = _child(node, part)
        is_faulty = is_faulty or (node is not None and node.faulty)
    return _Location(".".join(keys), node, holder, shape, around, is_faulty)


def _tag_location(location: _Location, tag: object) -> _Location:
    """The location of the `kind` that no member has, where a word chooses the member."""
    word = location.shape.discriminator if isinstance(location.shape.discriminator, str) else "kind"
    node = _child(location.node, word)
    if node is None or str(node.value) != str(tag):
        return location
    return replace(location, key=f"{location.key}.{word}".lstrip("."), node=node)


def _child(node: Node | None, part: str | int) -> Node | None:
    value = node.value if node is not None else None
    if isinstance(value, dict):
        return value.get(str(part))
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        entry: Node = value[part]
        return entry
    return None


def _describe(error: Mapping[str, Any], location: _Location) -> str:
    kind: str = error["type"]
    context: Mapping[str, Any] = error.get("ctx", {})
    came = location.node.plain() if location.node is not None else error["input"]
    if kind == "extra_forbidden":
        return _unknown_key(location)
    if kind == "missing":
        return f"wanted {_expected(location.shape)}; got nothing: this key is needed"
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(kind, context, came, location.shape)
    if kind in ("literal_error", "enum"):
        choices = _choices(location.shape)
        return f"wanted {listed(choices)}; got {shown(came)}{guess(came, map(str, choices))}"
    if kind in _MAPPING:
        return f"wanted {_expected(location.shape)}; got {shown(came)}"
    if kind in ("value_error", "assertion_error") and "error" in context:
        return str(context["error"])
    if kind in _WANTED:
        limits = {name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in context.items()}
        return f"wanted {_WANTED[kind].format(**limits)}; got {shown(came)}{_advice(kind, came)}"
    message = str(error["msg"])
    return f"{message[:1].lower()}{message[1:]}; got {shown(came)}"


def _choices(shape: Shape) -> list[Any]:
    """The values of a Literal or an Enum."""
    if isinstance(shape.annotation, type) and issubclass(shape.annotation, Enum):
        return [choice.value for choice in shape.annotation]
    return list(get_args(shape.annotation))


def _advice(kind: str, came: object) -> str:
    if kind == "string_type" and isinstance(came, int | float):
        return f": write '{str(came).lower()}' in quotes"
    if kind.startswith("int") and isinstance(came, float) and came == int(came):
        return f": write {int(came)}"
    is_number = isinstance(came, str) and came.replace("_", "").isdecimal()
    return f": write {str(came).replace('_', '')}" if kind.startswith(("int", "float")) and is_number else ""


def _expected(shape: Shape) -> str:
    """What may stand at a location, from its shape alone."""
    tagged = shape.members()
    if tagged:
        kinds = [tag for tag, member in tagged.items() if tag in member.kinds()]
        keys = [key for tag, member in tagged.items() if tag not in member.kinds() for key in member.needed()[:1]]
        ways = [f"kind: {listed(kinds)}"] if kinds else []
        ways += [f"the key {key!r}" for key in keys]
        return f"a mapping with {' or '.join(ways)}"
    fields = shape.fields()
    if fields:
        return f"a mapping with the keys {', '.join(fields)}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(shape.annotation, "a mapping" if get_origin(shape.annotation) is dict else "a value")


def _unknown_key(location: _Location) -> str:
    name = location.key.rpartition(".")[2]
    fields = location.around.fields()
    hint = guess(name, fields)
    if not hint:
        inner = [f"{key}.{name}" for key, shape in fields.items() if _has(shape, name)]
        hint = f"; did you mean {inner[0]!r}?" if inner else ""
    return (
        f"wanted one of the keys {', '.join(fields)}; got {name!r}{hint}"
        if fields
        else f"no key {name!r} is known here"
    )


def _has(shape: Shape, name: str) -> bool:
    return name in shape.fields() or any(name in member.fields() for member in shape.members().values())


def _wrong_tag(kind: str, context: Mapping[str, Any], came: Any, shape: Shape) -> str:
    tagged = shape.members()
    if kind == "union_tag_invalid" and not isinstance(came, dict):
        kinds = [tag for tag, member in tagged.items() if tag in member.kinds()]
        return f"wanted {listed(kinds)}; got {shown(context['tag'])}{guess(context['tag'], kinds)}"
    keys = list(came) if isinstance(came, dict) else []
    choosing = {"kind", *(key for member in tagged.values() for key in member.needed())}
    near = next((hint for key in keys if (hint := guess(key, choosing))), "")
    got = f"the keys {', '.join(map(str, keys))}" if keys else shown(came)
    return f"wanted {_expected(shape)}; got {got}{near}"
