"""A model that somebody has changed trains with its own loss: on packed rows where they give it, or not on them.

Every modification is tried on the models of each family: the loss and the gradients of the fast path are those of the
model's own forward pass, or there is no fast path, and the log names what stands in its way.
"""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from instar import Trainer
from instar.api.fast_path import FastPath, _say
from tests.api.modifications import MODELS, OF_A_MODEL, OF_A_MODULE, STILL_FAST, batch, made, places
from tests.api.training_parts import arguments

CHANGES = [(change, name) for change, one in OF_A_MODEL.items() for name in one.models]
KEPT = [(change, name) for change, one in STILL_FAST.items() for name in one.models]


def path_of(model: Any) -> FastPath | None:
    trainer = Trainer(model=model, args=arguments(Path("nowhere")))
    trainer._inspect_overrides()
    return FastPath.of(trainer)


def with_gradients(model: Any, loss: Any) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    loss.backward()
    return loss.item(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


def own(model: Any, inputs: dict[str, Any]) -> Any:
    output = model(**inputs)
    return output[0]


def is_right(model: Any, name: str) -> bool:
    """Compare the fast path with the model's own forward pass; False where there is no fast path."""
    inputs = batch(name)
    expected, gradients = with_gradients(model, own(model, inputs))
    path = path_of(model)
    loss = None if path is None else path.loss(inputs)
    if loss is None:
        again, _ = with_gradients(model, own(model, inputs))
        assert again == pytest.approx(expected, rel=1e-5)  # looking at it changed nothing
        return False
    got, mine = with_gradients(model, loss)
    assert got == pytest.approx(expected, rel=1e-5)
    for key, gradient in gradients.items():
        torch.testing.assert_close(mine.get(key, torch.zeros_like(gradient)), gradient, rtol=1e-3, atol=1e-5, msg=key)
    return True


@pytest.mark.filterwarnings("ignore:For backward hooks to be called", "ignore:Full backward hook is firing")
@pytest.mark.parametrize("modify", OF_A_MODULE, ids=lambda one: one.__name__)
@pytest.mark.parametrize("name", [name for name in MODELS if name != "gpt2 classes"])  # its modules are GPT-2's
def test_a_changed_module(name: str, modify: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plain, changed = made(name), 0
    inputs = batch(name)
    before, gradients_before = with_gradients(plain, own(plain, inputs))
    for place in places(plain):
        with pytest.MonkeyPatch.context() as patch:
            model = modify(made(name), place, patch)
            _say.cache_clear()
            caplog.clear()
            expected, gradients = with_gradients(model, own(model, inputs))
            is_fast = is_right(model, name)
            moved = expected != before or any(
                key in gradients and not torch.equal(gradients[key], gradient)
                for key, gradient in gradients_before.items()
            )
            changed += moved
            assert is_fast or "trains on padded batches: " in caplog.text, place
    assert changed >= (1 if modify.__name__ == "number_changed" else 3)  # the modifications do something


@pytest.mark.parametrize(("change", "name"), CHANGES)
def test_a_changed_model(change: str, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    _say.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        model = OF_A_MODEL[change].make(made(name), patch)
        try:
            assert is_right(model, name) or "trains on padded batches: " in caplog.text
        finally:
            getattr(model, "undo", int)()


@pytest.mark.parametrize(("change", "name"), KEPT)
def test_packed_rows_stand_for_it(change: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_right(STILL_FAST[change].make(made(name), monkeypatch), name)


def test_the_comparison_leaves_nothing_behind() -> None:
    model = made("bert classes")
    model.bert.encoder.layer[0].eval()
    path = path_of(model)
    assert path is not None
    modes = [module.training for module in model.modules()]
    drawn = torch.get_rng_state()
    weights = copy.deepcopy(model.state_dict())
    path.loss(batch("bert classes"))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
