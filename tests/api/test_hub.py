"""Publishing: repositories, commits, checkpoints on the way, cards, and a Hub that cannot be reached."""

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError

from instar.api.model_card import CardFacts, hyperparameters_of, results_of, write_card
from instar.api.publishing import StagedPush
from tests.api.evaluation_parts import Line, LineData
from tests.api.fake_hub import FakeHub, running

STEP_FILES = ("model.safetensors", "config.json", "optimizer.pt", "scheduler.pt", "trainer_state.json", "MANIFEST.json")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with running(monkeypatch) as found:
        yield found


def make(folder: Path, **options: Any) -> Any:
    from instar import Trainer, TrainingArguments

    args = TrainingArguments(
        str(folder), report_to="none", use_cpu=True, disable_tqdm=True, hub_token="hf_nothing", **options
    )
    return Trainer(Line(), args, train_dataset=LineData(8), eval_dataset=LineData(8))


def checkpoint(folder: Path, step: int = 3) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    for name in STEP_FILES:
        (made / name).write_bytes(name.encode())
    return made


def test_a_push_makes_the_repository_and_uploads_the_model(tmp_path: Path, hub: FakeHub) -> None:
    folder = tmp_path / "out"
    checkpoint(folder)
    trainer = make(folder)
    commit = trainer.push_to_hub(
        repo_id="somebody/demo", commit_message="Initial fine-tune", private=True, dataset_name="toy", language="en"
    )
    assert commit.oid == f"{1:040x}"
    assert hub.repositories["somebody/demo"]["visibility"] == "private"
    ((name, revision, message, added),) = hub.commits
    assert (name, revision, message) == ("somebody/demo", "main", "Initial fine-tune")
    assert {"model.safetensors", "README.md"} <= set(added)
    assert not [path for path in added if "checkpoint" in path or path.startswith("_")]
    assert added["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert b"the toy dataset" in added["README.md"]
    trainer.push_to_hub(commit_message="again")
    assert [commit[:3] for commit in hub.commits[1:]] == [("somebody/demo", "main", "again")]
    trainer.push_to_hub(repo_id="somebody/other")
    assert "somebody/other" in hub.repositories
    assert hub.commits[-1][0] == "somebody/other"


def test_the_name_of_the_repository_comes_from_the_arguments_or_the_folder(tmp_path: Path, hub: FakeHub) -> None:
    make(tmp_path / "one").push_to_hub()
    make(tmp_path / "two", hub_model_id="group/model", hub_private_repo=True).push_to_hub()
    assert {name: made.get("visibility") for name, made in hub.repositories.items()} == {
        "somebody/one": None,
        "group/model": "private",
    }


def test_a_push_may_go_on_in_the_background(tmp_path: Path, hub: FakeHub) -> None:
    trainer = make(tmp_path / "out")
    hub.gate.clear()
    job = trainer.push_to_hub(blocking=False)
    assert not job.done()
    hub.gate.set()
    trainer._finish_current_push()
    assert job.result().oid == f"{1:040x}"


@pytest.mark.parametrize(
    ("strategy", "messages", "extra"),
    [
        ("end", [], None),
        ("every_save", ["Training in progress, step 3"], None),
        ("checkpoint", ["Training in progress, step 3", "Training in progress, step 3, checkpoint"], "last-checkpoint"),
        (
            "all_checkpoints",
            ["Training in progress, step 3", "Training in progress, step 3, checkpoint"],
            "checkpoint-3",
        ),
    ],
)
def test_checkpoints_are_uploaded_as_the_strategy_says(
    tmp_path: Path, hub: FakeHub, strategy: str, messages: list[str], extra: str | None
) -> None:
    trainer = make(tmp_path / "out", hub_strategy=strategy)
    trainer.state.global_step = 3
    made = checkpoint(tmp_path / "out")
    trainer._push_from_checkpoint(str(made))
    trainer._finish_current_push()
    assert [commit[2] for commit in hub.commits] == messages
    files = set(hub.files("somebody/out"))
    assert {"model.safetensors", "config.json"} == {name for name in files if "/" not in name} or strategy == "end"
    assert {name for name in files if "/" in name} == ({f"{extra}/{name}" for name in STEP_FILES} if extra else set())
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["checkpoint-3"]


def test_what_is_uploaded_is_the_checkpoint_as_it_was(tmp_path: Path, hub: FakeHub) -> None:
    trainer = make(tmp_path / "out", hub_strategy="every_save")
    made = checkpoint(tmp_path / "out")
    hub.gate.clear()
    trainer._push_from_checkpoint(str(made))
    for path in made.iterdir():
        path.unlink()
    trainer._push_from_checkpoint(str(checkpoint(tmp_path / "out", 4)))  # left out: the first is under way
    hub.gate.set()
    trainer._finish_current_push()
    assert len(hub.commits) == 1
    assert hub.files("somebody/out")["model.safetensors"] == b"model.safetensors"


def test_always_push_leaves_none_out(tmp_path: Path, hub: FakeHub) -> None:
    trainer = make(tmp_path / "out", hub_strategy="every_save", hub_always_push=True)
    hub.gate.clear()
    for step in (1, 2, 3):
        trainer._push_from_checkpoint(str(checkpoint(tmp_path / "out", step)))
    hub.gate.set()
    trainer._finish_current_push()
    assert len(hub.commits) == 3


def test_offline_loses_nothing_and_says_how_to_publish(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    trainer = make(tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        staged = trainer.push_to_hub(repo_id="somebody/demo", commit_message="First", private=True)
    assert isinstance(staged, StagedPush)
    assert staged.command.startswith(f"hf upload somebody/demo {tmp_path / 'out'} . --commit-message First --private")
    assert staged.command in caplog.text
    assert {"model.safetensors", "README.md"} <= {path.name for path in staged.folder.iterdir()}


def test_a_hub_that_does_not_answer_stops_neither_training_nor_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        trainer = make(tmp_path / "out", hub_strategy="checkpoint")
        trainer.init_hf_repo()
        for step in (1, 2):
            trainer._push_from_checkpoint(str(checkpoint(tmp_path / "out", step)))
        trainer._finish_current_push()
        assert isinstance(trainer.push_to_hub(), StagedPush)
    assert "next push tries again" in caplog.text
    assert hub.commits == []


def test_what_the_hub_refuses_is_an_error(tmp_path: Path, hub: FakeHub) -> None:
    hub.refuse = 403
    with pytest.raises(HfHubHTTPError):
        make(tmp_path / "out").push_to_hub()


def test_a_card_is_read_back_as_it_was_meant(tmp_path: Path) -> None:
    trainer = make(tmp_path / "out", gradient_accumulation_steps=2, warmup_steps=5)
    trainer.state.log_history = [
        {"loss": 2.0, "epoch": 0.5, "step": 10},
        {"eval_loss": 1.53217, "eval_matthews_correlation": 0.25, "eval_runtime": 1.0, "epoch": 1.0, "step": 20},
        {"loss": 1.0, "epoch": 1.5, "step": 30},
        {"eval_loss": 1.25, "eval_matthews_correlation": 0.5, "eval_runtime": 1.0, "epoch": 2.0, "step": 40},
        {"train_runtime": 3.0, "train_loss": 1.4, "epoch": 2.0, "step": 40},
    ]
    trainer.create_model_card(
        language="en", license="mit", tags="toy", model_name="Demo", finetuned_from="group/base",
        tasks="text-classification", dataset_tags="glue", dataset="GLUE", dataset_args="cola",
    )  # fmt: skip
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert (card.data.language, card.data.license, card.data.base_model) == (["en"], "mit", "group/base")
    assert card.data.tags == ["toy", "generated_from_trainer"]
    assert (card.data.datasets, card.data.metrics) == (["glue"], ["matthews_correlation"])
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("matthews_correlation", 0.5, "GLUE")
    text = card.text
    assert "- Matthews Correlation: 0.5" in text
    assert "| 2.0           | 1.0   | 20   | 1.5322          | 0.25" in text
    assert "- total_train_batch_size: 16" in text
    assert "- lr_scheduler_warmup_steps: 5" in text
    trainer.create_model_card(tags=["more"])
    assert ModelCard.load(tmp_path / "out" / "README.md").data.tags == ["more", "toy", "generated_from_trainer"]


def test_a_card_takes_results_and_the_name_of_a_dataset(tmp_path: Path) -> None:
    trainer = make(tmp_path / "out")
    measured = {"validation_loss": 0.7, "validation_validation/accuracy": 0.5, "validation_runtime": 0.1}
    trainer.create_model_card(model_name="demo", dataset_name="toy-sentiment", language="en", metrics=measured)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "the toy-sentiment dataset" in text
    assert "- Validation Validation/accuracy: 0.5" in text
    assert "runtime" not in text.lower()
    trainer.create_model_card(metrics=["accuracy"])
    assert ModelCard.load(tmp_path / "out" / "README.md").data.metrics == ["accuracy"]


def test_text_of_users_does_not_break_a_card(tmp_path: Path) -> None:
    nasty = 'a: "b"\n---\n| c'
    facts = CardFacts(model_name=nasty, language=[nasty], tags=[nasty], metrics={"F1|x": float("nan")})
    write_card(tmp_path / "README.md", facts)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.tags == [nasty]
    assert "F1|x: nan" in card.text


def test_results_are_those_of_the_last_evaluation() -> None:
    assert results_of([]) == {}
    assert results_of([{"eval_loss": 1.0}, {"eval_loss": 2.0, "eval_f1": 0.5}, {"loss": 3.0}]) == {
        "Loss": 2.0,
        "F1": 0.5,
    }


def test_hyperparameters_name_what_shaped_the_model(tmp_path: Path) -> None:
    found = hyperparameters_of(make(tmp_path, max_steps=7, optim="sgd", label_smoothing_factor=0.1).args)
    assert found["training_steps"] == 7
    assert "num_epochs" not in found
    assert found["optimizer"].startswith("sgd with")
    assert found["label_smoothing_factor"] == 0.1


def test_processes_that_are_not_the_main_one_publish_nothing(tmp_path: Path, hub: FakeHub, monkeypatch: Any) -> None:
    trainer = make(tmp_path / "out")
    monkeypatch.setattr(type(trainer), "is_world_process_zero", lambda self: False)
    trainer.init_hf_repo()
    trainer.create_model_card()
    trainer._push_from_checkpoint(str(checkpoint(tmp_path / "out")))
    assert trainer.push_to_hub() is None
    assert hub.requests == []
