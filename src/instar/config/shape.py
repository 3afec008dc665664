"""What a model has at a dotted key: fields, members of unions, defaults.

Pydantic's name of a location holds the tags of unions between the keys; a `Shape` knows which is
which, so that a message names the key as the user wrote it.
"""

import types
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Discriminator, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from instar.config.tree import Node


@dataclass(frozen=True)
class Shape:
    """A type as a run file sees it, without `Annotated` and `| None`."""

    annotation: Any
    discriminator: str | Discriminator | None = None
    default: Any = PydanticUndefined

    @classmethod
    def of(cls, annotation: Any, discriminator: Any = None, default: Any = PydanticUndefined) -> "Shape":
        """The shape of a type hint."""
        while True:
            if get_origin(annotation) is Annotated:
                discriminator = _discriminator(annotation.__metadata__) or discriminator
                annotation = annotation.__origin__
                continue
            members = [member for member in get_args(annotation) if member is not types.NoneType]
            if not _is_union(annotation) or len(members) != 1:
                return cls(annotation, discriminator, default)
            annotation = members[0]

    @property
    def model(self) -> type[BaseModel] | None:
        """The model whose fields are the keys here."""
        is_model = isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel)
        return self.annotation if is_model else None

    @property
    def is_union(self) -> bool:
        """Whether pydantic names the member between the keys of a location."""
        return _is_union(self.annotation)

    def fields(self) -> dict[str, "Shape"]:
        """Keys of the mapping wanted here, each with its shape; empty where any key goes."""
        if self.model is None:
            return {}
        shapes = {}
        for name, info in self.model.model_fields.items():
            discriminator = info.discriminator or _discriminator(info.metadata)
            default = info.get_default(call_default_factory=True) if not info.is_required() else PydanticUndefined
            shapes[info.alias or name] = Shape.of(info.annotation, discriminator, default)
        return shapes

    def kinds(self) -> tuple[str, ...]:
        """The words that choose this model by `kind`."""
        info = self.model.model_fields.get("kind") if self.model is not None else None
        return get_args(info.annotation) if info is not None and get_origin(info.annotation) is Literal else ()

    def needed(self) -> list[str]:
        """Keys that have no default."""
        return [key for key, shape in self.fields().items() if shape.default is PydanticUndefined]

    def members(self) -> dict[str, "Shape"]:
        """Tag -> shape of each member of a tagged union; empty for any other shape."""
        if self.discriminator is None:
            return {}
        found: dict[str, Shape] = {}
        for member in get_args(self.annotation):
            shape = Shape.of(member)
            for tag in _tags(member, shape, self.discriminator):
                found[str(tag)] = shape
        return found

    def at(self, key: str | int) -> "Shape":
        """The shape of what stands at a key or an index."""
        fields = self.fields()
        if key in fields:
            return fields[str(key)]
        origin, args = get_origin(self.annotation), get_args(self.annotation)
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
            return Shape.of(args[1])
        if isinstance(origin, type) and issubclass(origin, Sequence | Set) and args:
            return Shape.of(args[key] if isinstance(key, int) and len(args) > key and args[-1] is not ... else args[0])
        return Shape(Any)

    def member(self, label: str) -> "Shape":
        """The member of a union that pydantic calls `label`."""
        tagged = self.members()
        if label in tagged:
            return tagged[label]
        is_literal = label.startswith("literal[")
        named = [
            arg
            for arg in get_args(self.annotation)
            if getattr(arg, "__name__", "") == label or (is_literal and get_origin(arg) is Literal)
        ]
        return Shape.of(named[0]) if named else Shape(Any)

    def tag_of(self, node: Node) -> str | None:
        """The member that a value picks, by its tag."""
        if isinstance(self.discriminator, str):
            word = node.value.get(self.discriminator) if isinstance(node.value, dict) else None
            return None if word is None else str(word.value)
        if isinstance(self.discriminator, Discriminator) and callable(self.discriminator.discriminator):
            tag = self.discriminator.discriminator(node.plain())
            return None if tag is None else str(tag)
        return None

    def chooses(self, node: Node) -> bool:
        """Whether there is no choice, or the value makes it."""
        return self.discriminator is None or self.tag_of(node) is not None

    def chosen(self, node: Node) -> "Shape":
        """The member that a value picks; itself where there is no choice."""
        return self if self.discriminator is None else self.members().get(self.tag_of(node) or "", Shape(Any))


def make_explicit(node: Node, shape: Shape) -> None:
    """Make explicit what a file may leave out, in place.

    A field that has another name in Python goes by its name in files; where a mapping chooses no
    member of a union and its key has a default, the default's kind is meant.
    """
    shape = shape.chosen(node)
    if isinstance(node.value, dict):
        _rename(node.value, shape)
        fields = shape.fields()
        for key, child in node.value.items():
            below = fields.get(key) or shape.at(key)
            kind = getattr(below.default, "kind", None)
            if kind is not None and isinstance(child.value, dict) and not below.chooses(child):
                child.value["kind"] = Node(kind, "default")
            make_explicit(child, below)
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            make_explicit(child, shape.at(index))


def _rename(nodes: dict[str, Node], shape: Shape) -> None:
    for name, info in shape.model.model_fields.items() if shape.model is not None else ():
        if info.alias is not None and name in nodes and info.alias not in nodes:
            nodes[info.alias] = nodes.pop(name)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _discriminator(metadata: Sequence[Any]) -> str | Discriminator | None:
    for entry in metadata:
        if isinstance(entry, FieldInfo) and entry.discriminator is not None:
            return entry.discriminator
        if isinstance(entry, Discriminator):
            return entry.discriminator if isinstance(entry.discriminator, str) else entry
    return None


def _tags(member: Any, shape: Shape, discriminator: str | Discriminator) -> list[Any]:
    metadata = member.__metadata__ if get_origin(member) is Annotated else ()
    named = [entry.tag for entry in metadata if isinstance(entry, Tag)]
    if named or shape.discriminator is not None:
        return named or list(shape.members())
    if not isinstance(discriminator, str) or shape.model is None:
        return []
    kind = shape.model.model_fields[discriminator].annotation
    return list(get_args(kind)) if get_origin(kind) is Literal else []
