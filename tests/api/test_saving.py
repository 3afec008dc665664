"""Checkpoints of the Trainer: what is in them, which are whole, which stay, and what damage does."""

import errno
import json
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, load_model
from torch import nn

from instar import Trainer, TrainerCallback
from instar.api.checkpoints import finding, names
from instar.api.checkpoints.background import Background
from instar.api.checkpoints.plain import as_plain, copied, read_values, write_values
from instar.api.checkpoints.weights import distinct, load_weights, save_weights
from instar.api.outputs import IntervalStrategy
from instar.checkpoint.protocol import verify
from instar.core.errors import CheckpointError, DiskError
from tests.api.saving_parts import Tied, bert, make, weights

PLAIN = {
    "MANIFEST.json",
    "loop.json",
    "model.safetensors",
    "optimizer.pt",
    "rng_state.pth",
    "scheduler.pt",
    "trainer_state.json",
    "training_args.bin",
    "training_args.json",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with checkpoints 4, 8 and 12; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    make(folder).train()
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def steps(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in names.checkpoints(folder)]


# ---- what is in a checkpoint ----


def test_a_checkpoint_has_the_files_that_other_tools_look_for(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer, BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdef"]))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    trainer = make(tmp_path / "run", bert(), max_steps=2, processing_class=tokenizer, hub_token="secret")
    trainer.train()
    folder = tmp_path / "run" / "checkpoint-2"
    assert {path.name for path in folder.iterdir()} >= PLAIN | {"config.json", "tokenizer.json"}
    verify(folder)
    again = AutoModelForMaskedLM.from_pretrained(folder)
    assert weights(again) == weights(trainer.model)
    assert AutoTokenizer.from_pretrained(folder).mask_token == "[MASK]"
    written = torch.load(folder / "training_args.bin", weights_only=True)
    assert written["learning_rate"] == 1e-2
    assert json.loads((folder / "training_args.json").read_text())["max_steps"] == 2
    assert b"secret" not in (folder / "training_args.bin").read_bytes() + (folder / "training_args.json").read_bytes()
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 2


def test_the_same_run_writes_the_same_bytes(run: Path, tmp_path: Path) -> None:
    make(tmp_path / "run").train()
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "loop.json"):
        assert (tmp_path / "run" / "checkpoint-8" / name).read_bytes() == (run / "checkpoint-8" / name).read_bytes(), (
            name
        )


def test_a_saved_model_is_the_model_alone(tmp_path: Path) -> None:
    trainer = make(tmp_path / "run")
    trainer.save_model()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "model.safetensors",
        "training_args.bin",
        "training_args.json",
    }
    trainer.save_model(str(tmp_path / "other"))
    assert (tmp_path / "other" / "model.safetensors").is_file()


def test_the_tokenizer_of_a_collator_is_saved(tmp_path: Path) -> None:
    class Reader:
        def save_pretrained(self, folder: str) -> None:
            (Path(folder) / "reader.json").write_text("{}")

    trainer = make(tmp_path)
    trainer.data_collator.tokenizer = Reader()  # type: ignore[attr-defined]
    try:
        trainer.save_model()
    finally:
        del trainer.data_collator.tokenizer  # type: ignore[attr-defined]
    assert (tmp_path / "reader.json").is_file()


def test_a_reader_that_cannot_be_saved_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path, processing_class=object())
    trainer.save_model()
    trainer.save_model()
    assert caplog.text.count("has no save_pretrained") == 1


def test_tensors_that_are_one_are_stored_once_and_come_back_as_one(tmp_path: Path) -> None:
    model = Tied(seed=3)
    save_weights(model, tmp_path)
    assert "head.weight" not in load_file(tmp_path / "model.safetensors")
    other = Tied(seed=4)
    assert load_weights(other, tmp_path) == ([], [])
    assert weights(other) == weights(model)
    assert other.head.weight is other.table.weight
    theirs = Tied(seed=5)
    load_model(theirs, tmp_path / "model.safetensors")
    assert weights(theirs) == weights(model)
    untied = Tied(seed=6)
    untied.head.weight = nn.Parameter(untied.head.weight.detach().clone())
    assert load_weights(untied, tmp_path).missing_keys == ["head.weight"]


def test_views_of_one_memory_are_stored_apart() -> None:
    base = torch.arange(6.0)
    stored = distinct({"whole": base, "half": base[:3], "again": base, "turned": base.view(2, 3).T})
    assert list(stored) == ["whole", "half", "turned"]
    assert stored["half"].untyped_storage().data_ptr() != stored["whole"].untyped_storage().data_ptr()
    with pytest.raises(CheckpointError, match="only tensors"):
        distinct({"extra_state": {"a": 1}})  # type: ignore[dict-item]


def test_weights_of_another_model_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_weights(nn.Linear(2, 2), tmp_path)
    trainer = make(tmp_path)
    trainer._load_from_checkpoint(str(tmp_path), nn.Linear(2, 2, bias=False))
    assert "unexpected keys in the checkpoint model loaded: ['bias']" in caplog.text
    trainer._load_from_checkpoint(
        str(tmp_path), nn.Bilinear(2, 1, 2).requires_grad_(False).to(torch.float32)
    ) if 0 else None


def test_only_the_model_is_saved_where_that_was_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path, save_only_model=True, max_steps=4)
    trainer.train()
    missing = {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    assert {path.name for path in (tmp_path / "checkpoint-4").iterdir()} == PLAIN - missing
    make(tmp_path, max_steps=5).train(resume_from_checkpoint=True)
    assert "holds the model only (save_only_model)" in caplog.text


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt"])
def test_a_missing_file_is_an_error_that_names_it(copy: Path, name: str) -> None:
    (copy / "checkpoint-12" / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        make(copy).train(resume_from_checkpoint=str(copy / "checkpoint-12"))
    (copy / "checkpoint-12" / "MANIFEST.json").unlink()  # as Transformers leaves it
    with pytest.raises(ValueError, match=f"{name} missing"):
        make(copy).train(resume_from_checkpoint=str(copy / "checkpoint-12"))


def test_the_optimizer_of_another_model_is_an_error(copy: Path) -> None:
    trainer = make(copy, nn.Sequential(nn.Linear(2, 2)))
    trainer.create_optimizer_and_scheduler(3)
    with pytest.raises(ValueError, match=r"optimizer\.pt: is of another optimizer or other parameters"):
        trainer._load_optimizer_and_scheduler(str(copy / "checkpoint-4"))


def test_weights_in_parts_are_taken(copy: Path) -> None:
    folder = copy / "checkpoint-8"
    whole = load_file(folder / "model.safetensors")
    from safetensors.torch import save_file

    for number, (name, tensor) in enumerate(whole.items()):
        save_file({name: tensor}, folder / f"model-{number}.safetensors", metadata={"format": "pt"})
    listed = {name: f"model-{number}.safetensors" for number, name in enumerate(whole)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    (folder / "model.safetensors").unlink()
    trainer = make(copy)
    trainer._load_from_checkpoint(str(trainer._find_checkpoint(str(folder))))
    assert all(torch.equal(tensor, trainer.model.state_dict()[name]) for name, tensor in whole.items())
    for bad in ({"x": "../../secret.safetensors"}, {"x": "none.safetensors"}, {}, []):
        index.write_text(json.dumps({"weight_map": bad}))
        with pytest.raises(ValueError, match=r"index\.json"):
            trainer._find_checkpoint(str(folder))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_adapters_are_saved_and_resumed_by_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def adapted() -> nn.Module:
        torch.manual_seed(5)
        config = peft.LoraConfig(r=2, target_modules=["query"], lora_dropout=0.1)
        model: nn.Module = peft.get_peft_model(bert(), config)
        return model

    whole = make(tmp_path / "whole", adapted(), fast_path=False)
    whole.train()
    folder = tmp_path / "whole" / "checkpoint-4"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in folder.iterdir()}
    assert not (folder / "model.safetensors").exists()
    part = make(tmp_path / "part", adapted(), fast_path=False)
    part.train(resume_from_checkpoint=str(folder))
    assert weights(part.model) == weights(whole.model)
    best = make(tmp_path / "best", adapted(), load_best_model_at_end=True, eval_strategy="steps", eval_steps=4)
    best.train()
    with pytest.raises(ValueError, match="holds adapters, and the model has none"):
        make(tmp_path / "none", bert())._load_from_checkpoint(str(folder))


# ---- nothing is unpickled ----


class Code:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("/tmp/instar-was-here",))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"state": Code()}, tmp_path / "optimizer.pt")
    with pytest.raises(CheckpointError, match="cannot be read as tensors and plain values"):
        read_values(tmp_path / "optimizer.pt")
    assert not Path("/tmp/instar-was-here").exists()
    with pytest.raises(CheckpointError, match="is missing"):
        read_values(tmp_path / "none.pt")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(plain)
def test_plain_values_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("values") / "scheduler.pt"
    write_values(path, value)
    back = read_values(path)
    assert back == value
    assert repr(back) == repr(value), "True is not 1"


def test_values_that_are_almost_plain_become_plain() -> None:
    given = {"a": np.float32(0.5), "b": IntervalStrategy.STEPS, "c": np.arange(3), "d": Path("x"), 1: {2}, "e": (True,)}
    found = as_plain(given)
    assert found["c"].tolist() == [0, 1, 2]
    del found["c"]
    assert repr(found) == repr({"a": 0.5, "b": "steps", "d": "x", 1: [2], "e": (True,)})
    with pytest.raises(CheckpointError, match=r"state: groups: is a builtins\.function"):
        as_plain({"groups": lambda: None}, "state")


# ---- random states ----


def draws() -> list[Any]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_generators_are_put_back_from_a_folder_that_is_made(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    place = tmp_path / "new" / "folder"
    trainer._save_rng_state(str(place))
    before = draws()
    assert draws() != before
    trainer._load_rng_state(str(place))
    assert draws() == before


def test_random_states_of_transformers_are_read_and_it_reads_ours(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    now = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    torch.save(now, tmp_path / "rng_state.pth")  # as its Trainer does
    before = draws()
    trainer._load_rng_state(str(tmp_path))
    assert draws() == before
    trainer._load_rng_state(str(tmp_path))
    trainer._save_rng_state(str(tmp_path))
    ours = torch.load(tmp_path / "rng_state.pth", weights_only=True)
    before = draws()
    random.setstate(ours["python"])
    np.random.set_state(ours["numpy"])
    torch.random.set_rng_state(ours["cpu"])
    assert draws() == before


def test_a_folder_without_random_states_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path)
    trainer._load_rng_state(None)
    trainer._load_rng_state(str(tmp_path))
    assert "generators stay as they are" in caplog.text


# ---- which checkpoint ----


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", [cut, flip, Path.unlink], ids=["cut", "flipped", "gone"])
@pytest.mark.parametrize("name", sorted(PLAIN - {"MANIFEST.json"}))
def test_a_damaged_newest_checkpoint_is_passed_over(
    copy: Path, name: str, how: Callable[[Path], Any], caplog: pytest.LogCaptureFixture
) -> None:
    how(copy / "checkpoint-12" / name)
    assert make(copy)._find_checkpoint(True) == str(copy / "checkpoint-8")
    assert f"{name} " in caplog.text
    assert "is damaged and is passed over" in caplog.text
    assert steps(copy) == [4, 8, 12], "nothing is taken away"


@pytest.mark.parametrize("name", ["model.safetensors", "trainer_state.json", "optimizer.pt", "scheduler.pt"])
def test_a_damaged_checkpoint_of_transformers_is_passed_over(copy: Path, name: str) -> None:
    for folder in names.checkpoints(copy):
        for own in ("MANIFEST.json", "loop.json", "training_args.json"):
            (folder / own).unlink()
    trainer = make(copy)
    assert trainer._find_checkpoint(True) == str(copy / "checkpoint-12")
    cut(copy / "checkpoint-12" / name)
    assert trainer._find_checkpoint(True) == str(copy / "checkpoint-8")


def test_a_run_that_went_on_after_damage_is_the_run_without(run: Path, copy: Path) -> None:
    cut(copy / "checkpoint-12" / "model.safetensors")
    make(copy).train(resume_from_checkpoint=True)
    name = "checkpoint-12/model.safetensors"
    assert (copy / name).read_bytes() == (run / name).read_bytes()


def test_a_checkpoint_that_is_not_there_gives_way_to_the_newest_beside_it(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make(copy)
    assert trainer._find_checkpoint(str(copy / "checkpoint-50")) == str(copy / "checkpoint-12")
    assert "there is no such checkpoint; training goes on from" in caplog.text
    assert trainer._find_checkpoint(copy / "checkpoint-4") == str(copy / "checkpoint-4")
    for nothing in (None, False, ""):
        assert trainer._find_checkpoint(nothing) is None


def test_where_there_is_no_checkpoint_the_error_says_why(copy: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("mine")
    trainer = make(copy)
    for place in (empty, copy / "checkpoint-12-bogus", tmp_path / "none" / "checkpoint-3"):
        with pytest.raises(ValueError, match="Can't find a valid checkpoint at"):
            trainer._find_checkpoint(str(place))
    with pytest.raises(ValueError, match=r"Can't find a valid checkpoint.*it holds checkpoints, of which .*-12"):
        trainer._find_checkpoint(str(copy))
    with pytest.raises(ValueError, match="Can't find a valid checkpoint at"):
        trainer._load_from_checkpoint(str(empty))
    cut(copy / "checkpoint-8" / "optimizer.pt")
    with pytest.raises(ValueError, match=r"optimizer.pt has .* bytes.*others .* are checkpoint-4, checkpoint-12"):
        trainer._find_checkpoint(str(copy / "checkpoint-8"))
    with pytest.raises(TypeError, match="wanted a path or a bool"):
        trainer._find_checkpoint(3)
    other = make(tmp_path / "fresh")
    with pytest.raises(ValueError, match="No valid checkpoint found in output directory"):
        other.train(resume_from_checkpoint=True)
    for folder in names.checkpoints(copy):
        (folder / "trainer_state.json").unlink()
    with pytest.raises(ValueError, match=r"No valid checkpoint found(.|\n)*trainer_state.json is missing"):
        trainer._find_checkpoint(True)


def test_what_others_put_beside_the_files_is_no_damage(copy: Path) -> None:
    (copy / "checkpoint-12" / "README.md").write_text("mine")
    (copy / "checkpoint-12" / "more").mkdir()
    (copy / "checkpoint-12" / "more" / "notes.txt").write_text("mine")
    assert make(copy)._find_checkpoint(True) == str(copy / "checkpoint-12")


def test_what_a_killed_save_left_is_cleared_away(copy: Path) -> None:
    for name in (".tmp-checkpoint-16-77-ab12", ".trash-checkpoint-2-77-ab12", ".trash-aside-checkpoint-2-7-a-7-b"):
        (copy / name).mkdir()
        (copy / name / "model.safetensors").write_bytes(b"half")
    (copy / ".tmp-of-the-user").mkdir()
    (copy / "checkpoint-12").rename(copy / ".aside-checkpoint-12-77-ab12")
    shutil.copytree(copy / "checkpoint-8", copy / ".aside-checkpoint-8-77-ab12")
    assert make(copy)._find_checkpoint(True) == str(copy / "checkpoint-12")
    assert sorted(path.name for path in copy.iterdir()) == [
        ".tmp-of-the-user",
        "checkpoint-12",
        "checkpoint-4",
        "checkpoint-8",
    ]
    finding.sweep(copy / "none")


# ---- which ones stay ----


def fakes(folder: Path, *numbers: int) -> None:
    for place, number in enumerate(numbers):
        (folder / f"checkpoint-{number}").mkdir(parents=True)
        os.utime(folder / f"checkpoint-{number}", (1e9 - place, 1e9 - place))  # the clock ran backwards


@pytest.mark.parametrize(
    ("limit", "best", "left"),
    [
        (None, None, [5, 10, 15, 20, 25]),
        (0, None, [5, 10, 15, 20, 25]),
        (2, None, [20, 25]),
        (2, 5, [5, 25]),
        (1, 25, [25]),
        (1, 5, [5, 25]),
        (3, 20, [15, 20, 25]),
    ],
)
def test_the_newest_by_step_and_the_best_stay(
    tmp_path: Path, limit: int | None, best: int | None, left: list[int]
) -> None:
    trainer = make(tmp_path / "run", save_total_limit=limit)
    fakes(tmp_path / "run", 5, 10, 15, 20, 25)
    if best is not None:
        trainer.state.best_model_checkpoint = str(tmp_path / "run" / f"checkpoint-{best}")
    trainer._rotate_checkpoints()
    assert steps(tmp_path / "run") == left


def test_checkpoints_are_listed_in_the_order_in_which_they_go(tmp_path: Path) -> None:
    trainer = make(tmp_path / "run")
    fakes(tmp_path / "run", 20, 5, 15, 100)
    trainer.state.best_model_checkpoint = str(tmp_path / "run" / "checkpoint-5")
    assert [Path(name).name for name in trainer._sorted_checkpoints()] == [
        "checkpoint-15",
        "checkpoint-20",
        "checkpoint-5",
        "checkpoint-100",
    ]
    assert trainer._sorted_checkpoints(str(tmp_path / "none")) == []


def test_a_damaged_checkpoint_never_takes_the_place_of_a_whole_one(copy: Path) -> None:
    cut(copy / "checkpoint-12" / "model.safetensors")
    finding.rotate(copy, 2)
    assert steps(copy) == [4, 8]


def judged(folder: Path, scores: list[float], **changes: Any) -> Trainer:
    """A run that evaluates every 2 steps and is given these accuracies."""

    class Judged(Trainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            self.evaluations = [*getattr(self, "evaluations", []), self.state.global_step]
            metrics = {"eval_accuracy": scores[len(self.evaluations) - 1]}
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

    wanted = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "accuracy", "max_steps": 8}
    trainer = make(folder, kind=Judged, **{**wanted, **changes})
    trainer.train()
    return trainer


def test_the_best_checkpoint_is_named_and_stays(tmp_path: Path) -> None:
    trainer = judged(tmp_path, [0.9, 0.5, 0.6, 0.7], save_steps=2, save_total_limit=1, greater_is_better=True)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.9, 2)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert steps(tmp_path) == [2]


def test_without_the_wish_for_the_best_a_step_between_two_saves_is_not_saved(tmp_path: Path) -> None:
    trainer = judged(tmp_path, [0.9, 0.5, 0.6, 0.7], save_steps=3, greater_is_better=True)
    assert trainer.state.best_global_step == 2
    assert trainer.state.best_model_checkpoint is None
    assert steps(tmp_path) == [3, 6, 8]


def test_the_best_is_saved_whenever_it_comes_and_loaded_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With `save_best` evaluating and saving are free of each other; Transformers has no way to that."""
    trainer = judged(
        tmp_path,
        [0.1, 0.9, 0.6, 0.7],
        save_steps=5,
        greater_is_better=True,
        save_best=True,
        load_best_model_at_end=True,
    )
    assert steps(tmp_path) == [2, 4, 5, 8]
    assert caplog.text.count("a checkpoint is saved at each evaluation that beats the ones before") == 1
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-4")
    other = Tied(seed=9)
    load_weights(other, tmp_path / "checkpoint-4")
    assert weights(trainer.model) == weights(other)


def test_by_epoch_and_by_step_go_together(tmp_path: Path) -> None:
    trainer = judged(
        tmp_path, [0.2, 0.3], eval_strategy="epoch", save_strategy="steps", save_steps=5, max_steps=-1,
        load_best_model_at_end=True, greater_is_better=True, save_best=True,
    )  # fmt: skip
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-12")


def test_only_the_best_is_saved_where_the_strategy_says_so(tmp_path: Path) -> None:
    judged(tmp_path, [3.0, 2.0, 2.5, 1.0], save_strategy="best", greater_is_better=False)
    assert steps(tmp_path) == [2, 4, 8]


def test_a_metric_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"'eval_f1', which is not found .*\['eval_accuracy'\]"):
        judged(tmp_path, [1.0], metric_for_best_model="f1")


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    nan = float("nan")
    trainer = judged(tmp_path, [nan, 0.5, nan, 0.4], greater_is_better=True)
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (0.5, 4)


MISMATCHED = [{"eval_strategy": "no"}, {"save_strategy": "no"}, {"save_strategy": "epoch"}]


@pytest.mark.parametrize("strategies", MISMATCHED)
def test_the_best_model_asked_with_mismatched_strategies_is_refused(tmp_path: Path, strategies: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="load_best_model_at_end"):
        make(tmp_path, **{"eval_strategy": "steps", "load_best_model_at_end": True, **strategies})


def test_a_run_folder_that_moved_keeps_its_best(copy: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = copy / "checkpoint-12" / "trainer_state.json"
    values = json.loads(state.read_text())
    for best, found in (("/old/place/checkpoint-8", str(copy / "checkpoint-8")), ("/old/place/checkpoint-7", None)):
        state.write_text(json.dumps({**values, "best_model_checkpoint": best}))
        assert make(tmp_path / "new")._load_state(str(copy / "checkpoint-12")).best_model_checkpoint == found
    assert "is not there any more" in caplog.text


def test_a_best_model_that_is_gone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path)
    before = weights(trainer.model)
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-3")
    trainer._load_best_model()
    assert "The best model cannot be loaded" in caplog.text
    assert weights(trainer.model) == before


def test_weights_that_are_no_numbers_are_not_published(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make(tmp_path / "run")
    with torch.no_grad():
        trainer.model.middle.weight[0, 0] = float("nan")  # type: ignore[index,union-attr]
    trainer._save_checkpoint(trainer.model)
    assert "the weight middle.weight is not finite, so no checkpoint is published" in caplog.text
    assert not (tmp_path / "run" / "checkpoint-0").exists()


# ---- users' own ways of saving ----


def test_a_users_way_of_saving_is_used(tmp_path: Path) -> None:
    class Own(Trainer):
        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:  # noqa: FBT001
            super().save_model(output_dir, _internal_call)
            (Path(str(output_dir)) / "more.txt").write_text("mine")

    trainer = make(tmp_path, kind=Own, max_steps=2, async_save=True)
    trainer.train()
    assert (tmp_path / "checkpoint-2" / "more.txt").read_text() == "mine"
    assert "more.txt" in verify(tmp_path / "checkpoint-2")["files"]


def test_callbacks_find_the_checkpoint_when_they_are_told_of_it(tmp_path: Path) -> None:
    class Adds(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            place = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            (place / "own.txt").write_text("mine")

    make(tmp_path, callbacks=[Adds], save_steps=2, max_steps=6, save_total_limit=2).train()
    assert steps(tmp_path) == [4, 6]
    assert make(tmp_path)._find_checkpoint(True) == str(tmp_path / "checkpoint-6")


# ---- in the background ----


def test_a_copy_is_written_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = make(tmp_path / "reference")
    reference.train()
    trainer = make(tmp_path / "run", async_save=True)
    let_go, seen = threading.Event(), []
    save = Trainer._save

    def slow(self: Trainer, output_dir: str | None = None, state_dict: Any = None) -> None:
        seen.append(threading.current_thread() is threading.main_thread())
        let_go.wait(20)
        seen.append(self.state.global_step)
        save(self, output_dir, state_dict)

    class Lets(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 6:
                let_go.set()

    monkeypatch.setattr("instar.api.saving.Saving._save", slow)
    monkeypatch.setattr("instar.api.saving._WRITERS", ())
    trainer.add_callback(Lets)
    trainer.train()
    assert seen[0] is False
    assert seen[1] >= 6, "two steps were made while the checkpoint waited"
    for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
        mine, theirs = (tmp_path / kind / "checkpoint-4" / name for kind in ("run", "reference"))
        assert mine.read_bytes() == theirs.read_bytes()
    assert steps(tmp_path / "run") == [4, 8, 12]
    assert "checkpoint" not in [thread.name for thread in threading.enumerate()]


def test_what_goes_wrong_in_the_background_is_raised_where_it_is_waited_for() -> None:
    writer = Background()
    writer.start(lambda: None)
    writer.wait()

    def fail() -> None:
        raise OSError("gone")

    writer.start(fail)
    with pytest.raises(OSError, match="gone"):
        writer.start(lambda: None)
    writer.start(fail)
    with pytest.raises(OSError, match="gone"):
        writer.wait()
    writer.wait()


def test_copies_share_memory_where_the_originals_do() -> None:
    model = Tied()
    state = model.state_dict()
    made = copied({"model": state, "more": [1, (state["table.weight"], "x")]})
    assert made["model"]["head.weight"] is made["model"]["table.weight"] is made["more"][1][0]
    state["table.weight"].zero_()
    assert made["model"]["table.weight"].abs().sum() > 0


# ---- full disks ----


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A disk that is full while the list holds True."""
    state = [True]
    write = write_values

    def fails(path: Path, value: Any) -> None:
        if state[0]:
            raise DiskError(f"{path}: {os.strerror(errno.ENOSPC)}")
        write(path, value)

    monkeypatch.setattr("instar.api.saving.write_values", fails)
    return iter([state]).__next__() and state  # type: ignore[return-value]


@pytest.mark.parametrize("in_background", [False, True])
def test_a_full_disk_ends_a_run_at_the_third_time_and_leaves_no_half(
    tmp_path: Path, full: list[bool], caplog: pytest.LogCaptureFixture, *, in_background: bool
) -> None:
    with pytest.raises(DiskError, match="No space left"):
        make(tmp_path, save_steps=1, async_save=in_background).train()
    assert caplog.text.count("training goes on and the next save tries again") == 2
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_was_full_for_a_while_costs_a_checkpoint_only(tmp_path: Path, full: list[bool]) -> None:
    class Frees(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            full[0] = state.global_step % 3 != 0

    make(tmp_path, save_steps=1, callbacks=[Frees], max_steps=6).train()
    assert steps(tmp_path) == [3, 6]


def test_a_full_disk_is_told_with_what_the_system_said(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(DiskError, match=r"optimizer.pt: File too large"):
            write_values(tmp_path / "optimizer.pt", {"moment": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
