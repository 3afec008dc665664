"""What type a value of each field may have, read from the annotations; harmless differences are taken out."""

import functools
import json
import math
import numbers
import os
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from transformers.training_args import OptimizerNames

from instar.api.arguments.faults import Fault, guess, wanted

DICT_FIELDS = (
    "accelerator_config",
    "fsdp_config",
    "deepspeed",
    "activation_checkpointing_kwargs",
    "gradient_checkpointing_kwargs",
    "lr_scheduler_kwargs",
)
"""Fields with a mapping that a command line gives as JSON text."""
MUON = "muon"
"""The value of `optim` that Transformers does not have."""
_MAY_BE_NONE = {"max_grad_norm", "eval_delay", "debug", "include_for_metrics", "log_level", "fsdp"}
_NEVER_ROUNDED = {"torch_empty_cache_steps"}
_ANYTHING = {"accelerator_config", "parallelism_config", "generation_config", "fsdp", "debug", "report_to"}
"""Fields that are read elsewhere, from more types than their annotation says."""
_SAID = {int: "a whole number", float: "a number", bool: "True or False", str: "text", list: "a list", dict: "a dict"}


def parse_mappings(arguments: Any) -> Iterator[Fault]:
    """Replace JSON text in the fields that hold a mapping by what it says."""
    for name in arguments._VALID_DICT_FIELDS:  # subclasses of users add their own
        text = getattr(arguments, name)
        if isinstance(text, str) and text.startswith("{"):
            try:
                setattr(arguments, name, _typed(json.loads(text)))
            except json.JSONDecodeError as error:
                yield Fault(name, f"wanted JSON; {error.msg} at character {error.pos + 1} of {text!r}")


def check(arguments: Any, base: type) -> Iterator[Fault]:
    """Bring every field of `base` to its type; a fault for each that cannot be."""
    hints = _hints(base)
    theirs = {field.name: field for field in fields(arguments)}
    for own in fields(base):
        name = own.name
        if name in _ANYTHING or theirs[name] is not own:  # users may give a field of their own that name
            continue
        value = getattr(arguments, name)
        if value is None and name in _MAY_BE_NONE:
            continue
        try:
            setattr(arguments, name, _fit(name, value, hints[name]))
        except ValueError as error:
            yield Fault(name, str(error))
            continue
        choices = own.metadata.get("choices")
        if choices and value is not None and value not in choices:
            yield Fault(name, wanted(f"one of {', '.join(choices)}", value, choices))


@functools.cache
def _hints(base: type) -> dict[str, tuple[Any, ...]]:
    return {name: _members(hint) for name, hint in get_type_hints(base).items()}


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = get_origin(hint) in (Union, types.UnionType)
    return get_args(hint) if is_union else (hint,)


def _fit(name: str, value: Any, members: tuple[Any, ...]) -> Any:
    for member in members:
        if isinstance(member, type) and issubclass(member, Enum):
            return _member(value, member)
    if value is None and type(None) in members:
        return None
    for member in members:
        fitted = _fit_one(name, value, member)
        if fitted is not None:
            return fitted
    raise ValueError(_refusal(value, members))


def _member(value: Any, choice: type[Enum]) -> Any:
    """The member of a choice; MUON is instar's own, and so stays the text that it is."""
    if choice is OptimizerNames and value == MUON:
        return MUON
    known = [member.value for member in choice]
    if value not in known:
        raise ValueError(
            f"{value!r} is not a valid {choice.__name__}, please select one of {known}{guess(value, known)}"
        )
    return choice(value)


def _fit_one(name: str, value: Any, member: Any) -> Any:
    """The value as this type has it; None if it is no such value."""
    origin = get_origin(member) or member
    if origin is Literal:
        return value if value in get_args(member) else None
    if origin is bool:
        return bool(value) if isinstance(value, int) and value in (0, 1) else _numpy_bool(value)
    if origin is int:
        return _whole(name, value)
    if origin is float:
        return _real(value)
    if origin is str:
        return value if isinstance(value, str) else os.fspath(value) if isinstance(value, os.PathLike) else None
    if origin is list:
        return _texts(value)
    return dict(value) if origin is dict and isinstance(value, Mapping) else None


def _numpy_bool(value: Any) -> bool | None:
    return bool(value) if type(value).__name__ in ("bool_", "bool") else None


def _whole(name: str, value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    is_round = isinstance(value, numbers.Real) and float(value).is_integer() and name not in _NEVER_ROUNDED
    return int(value) if is_round else None


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | numbers.Real) or math.isnan(float(value)):
        return None
    return value if isinstance(value, int) else float(value)


def _texts(value: Any) -> list[str] | None:
    is_list = isinstance(value, list | tuple | set | frozenset)
    return list(value) if is_list and all(isinstance(entry, str) for entry in value) else None


def _refusal(value: Any, members: tuple[Any, ...]) -> str:
    said = []
    for member in members:
        if get_origin(member) is Literal:
            said += [repr(choice) for choice in get_args(member)]
        elif member is not type(None):
            said.append(_SAID.get(get_origin(member) or member, "a value"))
    choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    advice = ""
    if isinstance(value, str) and {int, float} & set(members) and _is_number(value):
        advice = f": write {value} without quotes"
    return wanted(" or ".join(dict.fromkeys(said)), value, map(str, choices)) + advice


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _typed(value: Any) -> Any:
    """Numbers and truths that a command line wrote as text inside JSON."""
    if isinstance(value, dict):
        return {key: _typed(entry) for key, entry in value.items()}
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value.isdigit():
        return int(value)
    return float(value) if value.replace(".", "", 1).isdigit() else value
