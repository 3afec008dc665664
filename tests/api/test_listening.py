"""Events that somebody decorated or replaced are called, whatever name they bear."""

import functools
from typing import Any

import pytest
import transformers

import instar
from instar.api.callbacks.handler import _listens


def seen(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize("base", [instar.TrainerCallback, transformers.TrainerCallback])
def test_an_empty_event_is_passed_over_and_a_changed_one_is_not(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Decorated(base):  # type: ignore[misc]
        on_step_end = seen(base.on_step_end)

    class Named(base):  # type: ignore[misc]
        def on_log(self, *args: Any, **kwargs: Any) -> None: ...

    assert _listens(Decorated(), "on_step_end")
    assert not _listens(Decorated(), "on_log")
    assert _listens(Named(), "on_log")
    own = base()
    assert not _listens(own, "on_save")
    own.on_save = lambda *args, **kwargs: None
    assert _listens(own, "on_save")
    monkeypatch.setattr(base, "on_step_end", seen(base.on_step_end))
    assert _listens(base(), "on_step_end")
