"""Parts that are frozen stay as they are, to the bit, in every way to train; what is trained is what would be."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes import Small
from runs import SMOOTH, break_off, distance, last, left, losses, run, tensors
from test_parallel import EXACT, FEW, ranks

from instar.config.load import load
from instar.core.errors import ConfigError, TrainingError
from instar.run.check import check
from instar.run.config import RunConfig
from instar.trainer import Callback, TrainState


def changed(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


class Modes(Callback):
    """Whether modules were in training mode, at every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, bool]] = []

    def update_started(self, state: TrainState) -> None:
        self.seen.append({name: module.training for name, module in state.network.model.named_modules()})


class Writes(Callback):
    """Moves a frozen weight, and another, in one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def update_ended(self, state: TrainState) -> None:
        if state.step + 1 == self.step:
            named = dict(state.network.named_parameters())
            frozen = [value for value in named.values() if not value.requires_grad]
            with torch.no_grad():
                frozen[0].view(-1)[0] += 3.0
                frozen[1].view(-1)[:4] += 0.5


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("movie-rating", ("train.average={decay: 0.9}",)),
        ("text-mlm", ("train.optimizer={kind: muon}",)),
        ("splice-classify", ("train.compact_embedding=true",)),
    ],
)
def test_what_is_frozen_stays_and_the_rest_moves(
    name: str, more: tuple[str, ...], shrunk: Callable, tmp_path: Path
) -> None:
    """Ended after a step and resumed too; the optimizer holds nothing of it."""
    run(shrunk(name), tmp_path / "start", "train.frozen=true", "train.budget=1 steps")
    names = set(tensors(tmp_path / "start"))
    lower = {one for one in names if "embeddings" in one or ".0." in one}
    assert lower
    patterns = f"train.frozen={sorted(lower)}"
    run(shrunk(name), tmp_path / "whole", patterns, *more)
    assert changed(tensors(tmp_path / "start"), tensors(tmp_path / "whole")) <= names - lower
    assert len(changed(tensors(tmp_path / "start"), tensors(tmp_path / "whole"))) > len(names - lower) // 2
    held = {
        key.partition("::")[0].removeprefix("model.") for key in tensors(tmp_path / "whole", "optimizer.safetensors")
    }
    assert held
    assert not held & lower
    break_off(shrunk(name), tmp_path / "run", "step_ended", 5, patterns, *more)
    run(shrunk(name), tmp_path / "run", patterns, *more)
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_trainable_is_the_rest_of_frozen(shrunk: Callable, tmp_path: Path) -> None:
    small = shrunk("movie-rating")
    names = set(_names(small, tmp_path))
    upper = sorted(one for one in names if ".1." in one or one.startswith("classifier"))
    run(small, tmp_path / "one", f"train.trainable={upper}")
    run(small, tmp_path / "two", f"train.frozen={sorted(names - set(upper))}")
    assert losses(tmp_path / "one") == losses(tmp_path / "two")
    assert distance(tmp_path / "one", tmp_path / "two") == 0


def _names(small: Any, folder: Path) -> list[str]:
    run(small, folder / "names", "train.frozen=true", "train.budget=1 steps")
    return list(tensors(folder / "names"))


def test_frozen_modules_stay_in_evaluation_mode_after_evaluations(shrunk: Callable, tmp_path: Path) -> None:
    modes = Modes()
    run(
        shrunk("text-mlm"), tmp_path / "run", "train.trainable=['*.1.*']", "train.eval_every=1 steps",
        "model.dropout=0.1", extra=[modes],
    )  # fmt: skip
    assert len(modes.seen) == 8
    assert all(seen == modes.seen[0] for seen in modes.seen)
    layers = {name.rpartition(".")[2]: mode for name, mode in modes.seen[-1].items() if name.endswith((".0", ".1"))}
    assert layers == {"0": False, "1": True}


@pytest.mark.parametrize(("step", "found"), [(1, 1), (2, 3), (7, 8)])
def test_a_change_ends_the_run_before_it_is_saved(step: int, found: int, shrunk: Callable, tmp_path: Path) -> None:
    """At the first step, at the checkpoint of step 3, at the end."""
    with pytest.raises(
        TrainingError, match=rf"step {found}: 2 of \d+ frozen tensors changed .* model.*norm.weight by 1, .* by 3;"
    ):
        run(shrunk("text-mlm"), tmp_path / "run", "train.trainable=['*.1.*']", extra=[Writes(step)])
    saved = [int(path.name.rpartition("-")[2]) for path in (tmp_path / "run").glob("checkpoint-*")]
    assert all(number < found for number in saved)


@pytest.mark.parametrize("parallel", ["{kind: fsdp}", "{kind: ddp}"])
def test_ranks_freeze_alike(parallel: str, shrunk: Callable, tmp_path: Path, fork_server: Any) -> None:
    more = (*FEW, *EXACT, SMOOTH, "train.trainable=['*.1.*']", "train.average={decay: 0.9}")
    run(shrunk("text-mlm"), tmp_path / "one", *more)
    codes, life = ranks(fork_server, shrunk("text-mlm"), tmp_path / "two", *more, f"train.parallel={parallel}", world=2)
    assert codes == [0, 0], life.output
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    for file in ("model.safetensors", "optimizer.safetensors", "average.safetensors"):
        assert distance(tmp_path / "one", tmp_path / "two", file) < 1e-6


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.frozen=['bert.embedings.*']", r"train.frozen: 'bert.embedings.\*' matches no parameter of the model"),
        ("train.trainable=['nothing.*']", r"train.trainable: 'nothing.\*' matches no parameter"),
        ("train.frozen=['*']", "nothing is left to train"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(override: str, said: str, shrunk: Callable, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        run(shrunk("movie-rating"), tmp_path / "run", override)
    assert not (tmp_path / "run").exists()


def test_true_and_trainable_contradict(shrunk: Callable) -> None:
    with pytest.raises(ConfigError, match="leave one of the two out"):
        load(shrunk("text-gpt").file, RunConfig, ("train.frozen=true", "train.trainable=['*']"))


def test_one_name_of_a_tied_pair(shrunk: Callable, tmp_path: Path) -> None:
    """Frozen under either name; trained under one of them only is refused, with both."""
    small = shrunk("text-gpt")
    with pytest.raises(ConfigError, match=r"matches lm_head.weight and not transformer.wte.weight, which are one"):
        run(small, tmp_path / "run", "train.trainable=['lm_head.*', '*.ln_f.*']")
    run(small, tmp_path / "start", "train.frozen=true", "train.budget=1 steps")
    for number, name in enumerate(("lm_head.weight", "transformer.wte.weight")):
        run(small, tmp_path / f"run-{number}", f"train.frozen=['{name}']")
        moved = changed(tensors(tmp_path / "start"), tensors(tmp_path / f"run-{number}"))
        assert moved
        assert "transformer.wte.weight" not in moved
    assert distance(tmp_path / "run-0", tmp_path / "run-1") == 0


def test_check_counts_both(shrunk: Callable) -> None:
    small = shrunk("text-gpt").but("train.trainable=['*.ln_f.*']")
    found = check(small.file, small.overrides)
    assert found["parameters"] - found["frozen_parameters"] == 64


@pytest.mark.parametrize("parallel", ["{kind: fsdp}", "{kind: ddp}"])
def test_ranks_train_an_adapter_alike(parallel: str, shrunk: Callable, tmp_path: Path, fork_server: Any) -> None:
    small = shrunk("text-gpt").but(*FEW)
    run(small, tmp_path / "base")
    model = f"model={{from: {last(tmp_path / 'base')}, dropout: 0.0, adapter: {{kind: lora, rank: 2}}}}"
    adapted = Small(small.name, tuple(one for one in small.overrides if not one.startswith("model.")))
    adapted = adapted.but(*EXACT, model, "tokenizer=null")
    run(adapted, tmp_path / "one")
    codes, life = ranks(fork_server, adapted, tmp_path / "two", f"train.parallel={parallel}", world=2)
    assert codes == [0, 0], life.output
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-6)
    for file in ("adapter_model.safetensors", "optimizer.safetensors"):
        assert distance(tmp_path / "one", tmp_path / "two", file) < 1e-6
