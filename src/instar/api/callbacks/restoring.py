"""Callbacks as they were when a checkpoint was saved."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from transformers.trainer_callback import EarlyStoppingCallback

_log = logging.getLogger(__name__)


def restore_states(things: Sequence[Any], states: Mapping[str, Any]) -> None:
    """Make each callback (or control) what the one of its class was: its args and its attributes.

    An object stays itself, so whoever holds it sees the change. Several of a class take their states in order.
    States of classes that are not there are named in one warning.
    """
    not_found: list[str] = []
    for name, stored in states.items():
        same = [thing for thing in things if type(thing).__name__ == name]
        if not same:
            not_found.append(name)
        for thing, state in zip(same, stored if isinstance(stored, list) else [stored], strict=False):
            fresh = type(thing)(**state.get("args", {}))
            for attribute, value in state.get("attributes", {}).items():
                setattr(fresh, attribute, value)
            vars(thing).update(vars(fresh))
    if not_found:
        _log.warning(
            "The checkpoint holds the state of callbacks that this run does not have: %s", ", ".join(not_found)
        )


def resume_counting(things: Sequence[Any], states: Mapping[str, Any]) -> None:
    """Let early stopping go on with its count, and with the patience that this run gave it."""
    own = [thing for thing in things if isinstance(thing, EarlyStoppingCallback)]
    for callback in own:
        stored = states.get(type(callback).__name__)
        same = [thing for thing in own if type(thing) is type(callback)]
        if isinstance(stored, list):
            place = same.index(callback)
            stored = stored[place] if place < len(stored) else None
        for attribute, value in (stored or {}).get("attributes", {}).items():
            setattr(callback, attribute, value)
