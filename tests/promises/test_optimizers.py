"""The promises of a run hold with every optimizer that a run file can name."""

from collections.abc import Callable
from pathlib import Path

import pytest
from faults import ForkServer
from runs import break_off, distance, left, losses, run

OPTIMIZERS = ("{kind: muon, lr: 1e-2}",)
NAME = "text-mlm"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_ended_and_resumed(optimizer: str, shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    small, chosen = shrunk(NAME), f"train.optimizer={optimizer}"
    break_off(small, tmp_path / "run", "step_ended", 5, chosen)
    run(small, tmp_path / "run", chosen)
    assert left(tmp_path / "run") == left(reference(NAME, chosen))
    assert losses(tmp_path / "run") != losses(reference(NAME)), "it is not AdamW"


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_size_of_pieces_changes_nothing(
    optimizer: str, shrunk: Callable, reference: Callable, tmp_path: Path
) -> None:
    chosen = f"train.optimizer={optimizer}"
    run(shrunk(NAME), tmp_path / "run", chosen, "train.micro_tokens=50")
    assert losses(tmp_path / "run") == pytest.approx(losses(reference(NAME, chosen)), rel=1e-5)
    assert distance(tmp_path / "run", reference(NAME, chosen)) < 1e-4


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_bad_step_is_skipped(
    optimizer: str, shrunk: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from test_non_finite import Watch, equal, poison

    poison(monkeypatch, {3}, float("nan"))
    watch = Watch()
    run(shrunk(NAME), tmp_path / "run", f"train.optimizer={optimizer}", extra=[watch])
    same = [equal(*pair) for pair in zip(watch.weights, watch.weights[1:], strict=False)]
    assert same[:4] == [False, True, False, False]
    assert equal(watch.moments[1], watch.moments[2])


def test_sharded_weights_are_the_whole(shrunk: Callable, tmp_path: Path, fork_server: ForkServer) -> None:
    """A sharded matrix is put together for its step."""
    from test_parallel import EXACT, FEW, ranks

    more = (*FEW, *EXACT, f"train.optimizer={OPTIMIZERS[0]}")
    run(shrunk(NAME), tmp_path / "one", *more)
    codes, life = ranks(fork_server, shrunk(NAME), tmp_path / "parts", *more, "train.parallel={kind: fsdp}", world=2)
    assert codes == [0, 0], life.output
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    mine, theirs = left(tmp_path / "one"), left(tmp_path / "parts")
    assert mine.keys() == theirs.keys()
    for file in (key for key in mine if key.endswith(".safetensors")):
        assert distance(tmp_path / "one", tmp_path / "parts", file) < 1e-4, file
