"""A model's life across tasks: what of a checkpoint goes on in a run of another task, or in a new phase of the same."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from instar.config.load import load
from instar.core.errors import CheckpointError, ConfigError, DataError
from instar.core.files.json_files import read_lines
from instar.core.rundir import RunFolder
from instar.model import Network
from instar.run.build import make_network
from instar.run.check import check
from instar.run.config import RunConfig
from instar.run.corpus import build_corpus, cut_corpus
from instar.run.prepare import prepare
from instar.trainer import Runtime
from instar.use.evaluate import evaluate
from tests.model.helpers import stock
from tests.run.conftest import Workshop

Trained = Callable[[str], tuple[Workshop, dict[str, Any]]]


def begun(workshop: Workshop, task: str, *overrides: str) -> tuple[Network, list[str]]:
    """The network that a run would begin with, and what is told of its tensors."""
    cache = f"data.cache={workshop.folder / 'cache'}"
    config = load(workshop.run_file(task), RunConfig, [cache, *overrides]).value
    corpus = build_corpus(config, lambda _: None)
    told: list[str] = []
    built = config.task.build(corpus.tokenizer)
    network = make_network(config, corpus.tokenizer, corpus.labels, built, tell=told.append)
    cut_corpus(config, corpus, network)
    return network, told


def from_(checkpoint: str | Path, *more: str) -> list[str]:
    inside = ", ".join([f"from: {checkpoint}", *more])
    return [f"model={{{inside}}}", "tokenizer=null"]


def assert_body_is_of(network: Network, checkpoint: str | Path) -> None:
    saved = load_file(Path(checkpoint) / "model.safetensors")
    prefix = f"{network.model.base_model_prefix}."
    body = {name: value for name, value in network.model.named_parameters() if name.startswith(prefix)}
    kept = [name for name in body if ".pooler." not in name]
    assert kept
    assert all(torch.equal(body[name], saved[name]) for name in kept)


CROSSINGS = [("mlm", "classify"), ("classify", "mlm"), ("causal_lm", "classify"), ("mlm", "regress")]


@pytest.mark.parametrize(("first", "second"), CROSSINGS)
def test_the_body_goes_on_and_the_head_is_new(trained: Trained, first: str, second: str) -> None:
    workshop, summary = trained(first)
    network, told = begun(workshop, second, *from_(summary["checkpoint"]))
    assert_body_is_of(network, summary["checkpoint"])
    assert "the head is new: its task was" in told[0]
    named = {line.split(": ")[2].split(" [")[0] for line in told if line.startswith("model: new: ")}
    saved = load_file(Path(summary["checkpoint"]) / "model.safetensors")
    mine = dict(network.model.named_parameters())
    differing = {name for name, value in mine.items() if name not in saved or not torch.equal(value, saved[name])}
    assert named == differing
    gone = {line.split(": ")[2].split(" [")[0] for line in told if line.startswith("model: of the folder not used")}
    assert gone == {name for name in saved if name not in mine or name in named}
    assert all(line.endswith("]") for line in told if ": new: " in line or "not used" in line), "shapes are told"


def test_a_classifier_of_a_causal_network_reads_the_last_real_token(trained: Trained) -> None:
    workshop, summary = trained("causal_lm")
    network, _ = begun(workshop, "classify", *from_(summary["checkpoint"]))
    assert network.pooling == "last"
    config = load(workshop.run_file("classify"), RunConfig, from_(summary["checkpoint"])).value
    corpus = build_corpus(config, lambda _: None)
    batch = next(cut_corpus(config, corpus, network).train.batches(200))
    ends = [end - 1 for end in batch.boundaries[1:]]
    assert batch.ids_T[ends].tolist() == [corpus.tokenizer.eos_id] * len(batch)
    assert batch.ids_T[list(batch.boundaries[:-1])].tolist() != [corpus.tokenizer.cls_id] * len(batch)
    with torch.no_grad():
        hidden_TH = stock(network.eval()).base_model(input_ids=batch.ids_T[: ends[0] + 1][None]).last_hidden_state[0]
        wanted = network.model.score(hidden_TH[-1])
        torch.testing.assert_close(network(batch).logits_MV()[0], wanted, rtol=1e-4, atol=1e-5)


def test_the_head_is_kept_where_task_and_labels_agree(trained: Trained, workshop: Workshop) -> None:
    _, summary = trained("classify")
    network, told = begun(workshop, "classify", *from_(summary["checkpoint"]))
    saved = load_file(Path(summary["checkpoint"]) / "model.safetensors")
    assert "the head is kept: same task and same labels" in told[0]
    assert torch.equal(network.model.classifier.weight, saved["classifier.weight"])
    renamed = (workshop.folder / "rows.csv").read_text().replace(",other,", ",thing,")
    (workshop.folder / "rows.csv").write_text(renamed)
    network, told = begun(workshop, "classify", *from_(summary["checkpoint"]))
    assert "its labels were class bird, other, and this run's are class bird, thing" in told[0]
    assert not torch.equal(network.model.classifier.weight, saved["classifier.weight"]), "as many labels, but others"


def test_the_average_gives_the_body_and_not_the_old_head(workshop: Workshop) -> None:
    summary = workshop.train("classify", ["train.average={decay: 0.9}", "train.budget=4 steps"], "first")
    average = load_file(Path(summary["checkpoint"]) / "average.safetensors")
    network, _ = begun(workshop, "classify", *from_(summary["checkpoint"]), "task.labels=[other, bird]")
    named = dict(network.named_parameters())
    assert torch.equal(
        named["model.bert.encoder.layer.0.output.dense.weight"],
        average["model.bert.encoder.layer.0.output.dense.weight"],
    )
    assert not torch.equal(named["model.classifier.weight"], average["model.classifier.weight"])


def test_a_folder_of_transformers_says_by_its_class_what_it_was_trained_for(trained: Trained, tmp_path: Path) -> None:
    workshop, summary = trained("classify")
    folder = tmp_path / "foreign"
    shutil.copytree(summary["checkpoint"], folder)
    for name in ("MANIFEST.json", "state.json", "run.yaml", "labels.json"):
        (folder / name).unlink()
    assert "the head is kept" in begun(workshop, "classify", *from_(folder))[1][0]
    assert "its task was classify, and this run's is masked_lm" in begun(workshop, "mlm", *from_(folder))[1][0]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    assert "its labels were not named" in begun(workshop, "classify", *from_(folder))[1][0]


def test_another_tokenizer_is_refused_unless_rows_go_by_token(trained: Trained, workshop: Workshop) -> None:
    _, summary = trained("causal_lm")
    (workshop.folder / "lines.txt").write_text("a river of snow over snowy mountains in the night\n" * 40)
    other = [f"model={{from: {summary['checkpoint']}}}", "tokenizer.vocab_size=290"]
    with pytest.raises(DataError, match=r"resize_embeddings: by_token to keep the rows"):
        begun(workshop, "causal_lm", *other)
    network, told = begun(workshop, "causal_lm", *other, "model.resize_embeddings=by_token")
    resized = [line for line in told if line.startswith("model: resized: ")]
    assert [line.split(": ")[2].split(" ")[0] for line in resized] == ["transformer.wte.weight"]
    assert network.model.config.vocab_size < 300
    assert_kept_by_token(network, workshop, summary["checkpoint"])
    summary = workshop.train("causal_lm", [*other, "model.resize_embeddings=by_token", "train.budget=2 steps"], "next")
    assert summary["steps"] == 2


def assert_kept_by_token(network: Network, workshop: Workshop, checkpoint: str) -> None:
    from instar.data.tokenizer import Tokenizer

    config = load(workshop.run_file("causal_lm"), RunConfig, [f"data.cache={workshop.folder / 'cache'}"]).value
    config = config.model_copy(update={"tokenizer": config.tokenizer.model_copy(update={"vocab_size": 290})})
    new, old = build_corpus(config, lambda _: None).tokenizer, Tokenizer.load(Path(checkpoint))
    table, before = network.model.get_input_embeddings().weight, load_file(Path(checkpoint) / "model.safetensors")
    kept = 0
    for number, token in enumerate(new.tokens(range(new.vocab_size))):
        row = old.codec.number(token)
        if row is not None:
            kept += 1
            assert torch.equal(table[number], before["transformer.wte.weight"][row]), token
    assert 0 < kept < new.vocab_size


# ---- a new phase ----


def prepared(workshop: Workshop, task: str, name: str, *overrides: str) -> Any:
    cache = f"data.cache={workshop.folder / 'cache'}"
    config = load(workshop.run_file(task), RunConfig, [cache, *overrides]).value
    return prepare(config, RunFolder(workshop.folder / name), Runtime.start("cpu"), None, console=Console(quiet=True))


@pytest.mark.parametrize(
    "spelling", ["model.with_optimizer=true", "switch_training=true", "train.switch_training=true"]
)
def test_a_new_phase_keeps_model_and_optimizer_and_counts_anew(trained: Trained, spelling: str) -> None:
    workshop, summary = trained("mlm")
    run = prepared(workshop, "mlm", "phase", *from_(summary["checkpoint"]), spelling, "train.budget=7 steps")
    saved = load_file(Path(summary["checkpoint"]) / "optimizer.safetensors")
    state = run.state
    assert_body_is_of(state.network, summary["checkpoint"])
    found = {
        f"{name}::{kind}": value
        for group in state.optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for kind, value in state.optimizer.state[parameter].items()
    }
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert (state.step, state.counters.samples, state.totals["steps"]) == (0, 0, 7)


def test_a_new_phase_wants_the_same_task_and_a_checkpoint(trained: Trained, tmp_path: Path) -> None:
    workshop, summary = trained("mlm")
    with pytest.raises(ConfigError, match="a new phase wants the same task"):
        prepared(workshop, "classify", "phase", *from_(summary["checkpoint"], "with_optimizer: true"))
    for name in ("MANIFEST.json", "state.json"):
        shutil.copytree(summary["checkpoint"], tmp_path / name)
        (tmp_path / name / name).unlink()
    with pytest.raises(CheckpointError):
        prepared(workshop, "mlm", "phase", *from_(tmp_path / "state.json", "with_optimizer: true"))
    shutil.rmtree(tmp_path / "MANIFEST.json" / "x", ignore_errors=True)
    (tmp_path / "MANIFEST.json" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="holds weights only"):
        prepared(workshop, "mlm", "phase", *from_(tmp_path / "MANIFEST.json", "with_optimizer: true"))


def test_the_table_of_a_classifier_that_is_cut_to_its_data_begins_anew(trained: Trained) -> None:
    workshop, summary = trained("classify")
    run = prepared(workshop, "classify", "phase", *from_(summary["checkpoint"], "with_optimizer: true"))
    kept = {
        name
        for group in run.state.optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if run.state.optimizer.state.get(parameter)
    }
    every = {name for group in run.state.optimizer.param_groups for name in group["names"]}
    assert every - kept == {"model.bert.embeddings.word_embeddings.weight"}


# ---- the rate after a checkpoint ----


def rates(folder: Path) -> list[float]:
    return [line["lr"] for line in read_lines(folder / "metrics.jsonl") if line["split"] == "train"]


EACH = ("train.log_every=1", "train.eval_every=null")


def test_rewarming_starts_at_the_last_rate_and_is_resumed_without_its_parent(workshop: Workshop) -> None:
    first = workshop.train("mlm", [*EACH, "train.schedule={kind: linear}", "train.budget=10 steps"], "first")
    last = rates(workshop.folder / "first")[-1]
    schedule = "train.schedule={kind: rewarm, over: 4 steps, then: {kind: cosine}}"
    phase = [*EACH, *from_(first["checkpoint"]), schedule, "train.budget=12 steps", "train.save_every=3 steps"]
    phase.append("train.keep_last=9")
    whole = rates(workshop.folder / "second") if workshop.train("mlm", phase, "second") else []
    assert whole[0] == last > 0
    assert whole[4] == pytest.approx(5e-3)
    assert whole[:5] == pytest.approx([last + (5e-3 - last) * step / 4 for step in range(5)])
    shutil.rmtree(workshop.folder / "first")
    for step in (12, 9, 6):
        shutil.rmtree(workshop.folder / "second" / f"checkpoint-{step}")
    workshop.train("mlm", phase, "second")
    assert rates(workshop.folder / "second") == whole


def test_a_continued_schedule_goes_on_as_if_never_broken(workshop: Workshop) -> None:
    whole = workshop.train("mlm", [*EACH, "train.budget=20 steps"], "whole")
    assert whole["steps"] == 20
    cut = workshop.train(
        "mlm", [*EACH, "train.budget=20 steps", "train.save_every=8 steps", "train.keep_last=9"], "cut"
    )
    checkpoint = Path(cut["checkpoint"]).with_name("checkpoint-8")
    on = [*EACH, *from_(checkpoint), "train.schedule={kind: continue}", "train.budget=12 steps"]
    workshop.train("mlm", on, "on")
    assert rates(workshop.folder / "on") == rates(workshop.folder / "whole")[8:]
    with pytest.raises(ConfigError, match=r"train\.optimizer\.lr: to continue .* wanted its 0\.005; got 0\.001"):
        workshop.train("mlm", [*on, "train.optimizer.lr=1e-3"], "other")


def test_the_checkpoint_before_the_fall_is_always_kept(workshop: Workshop) -> None:
    options = [*EACH, "train.keep_last=1", "train.save_every=2 steps"]
    falling = "train.schedule={kind: wsd, warmup: 0.1, decay: 0.3}"
    workshop.train("mlm", [*options, falling, "train.budget=10 steps"], "run")
    steps = [step for step, _ in RunFolder(workshop.folder / "run").checkpoints()]
    assert steps == [7, 10]
    curve = rates(workshop.folder / "run")
    assert curve[1:8] == pytest.approx([5e-3] * 7)
    assert curve[8] < 5e-3
    summary = workshop.train("mlm", [*options, falling, "train.budget=20 steps"], "run")
    assert summary["steps"] == 20
    assert [step for step, _ in RunFolder(workshop.folder / "run").checkpoints()] == [7, 14, 20]


def test_check_draws_the_joint_before_training(workshop: Workshop, tmp_path: Path) -> None:
    first = workshop.train("mlm", [*EACH, "train.schedule={kind: linear}", "train.budget=8 steps"], "first")
    schedule = "train.schedule={kind: rewarm, over: 4 steps, then: {kind: cosine}}"
    phase = [f"data.cache={workshop.folder / 'cache'}", *from_(first["checkpoint"]), schedule, "train.budget=12 steps"]
    found = check(workshop.run_file("mlm"), phase, picture=tmp_path / "rates.csv")
    drawn = [line.split(",") for line in (tmp_path / "rates.csv").read_text().splitlines()[1:]]
    assert [int(step) for part, step, _ in drawn if part == "before"] == list(range(-8, 0))
    before = [float(rate) for part, _, rate in drawn if part == "before"]
    assert before == pytest.approx(rates(workshop.folder / "first"), rel=1e-12)
    after = [float(rate) for part, _, rate in drawn if part == "run"]
    assert after[0] == before[-1] == found["first_rate"]
    assert len(after) == 12
    assert found["rates"][-1].endswith("^ joint")
    assert found["begins"][0].startswith("model: begins from")
    assert not (tmp_path / "runs").exists()


def test_a_schedule_that_looks_back_wants_a_checkpoint(workshop: Workshop, trained: Trained) -> None:
    for schedule in ("{kind: rewarm}", "{kind: continue}"):
        with pytest.raises(ConfigError, match="goes on from a checkpoint; set model"):
            workshop.train("mlm", [f"train.schedule={schedule}"])
    given = prepared(workshop, "mlm", "given", "train.schedule={kind: rewarm, start: 0.25, over: 0.5}")
    assert given.state.schedule.factor(0.0, 0.1, given.state.totals) == 0.25


def test_labels_that_the_checkpoint_does_not_know_are_refused(trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("classify")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,kind\nthe bird,bird\nthe stone,rock\n")
    with pytest.raises(DataError, match=r"rows\.csv:3: label 'rock' is not known.*known are: bird, other"):
        evaluate(Path(summary["checkpoint"]), input_file=rows)


def test_a_task_that_the_architecture_cannot_do_is_refused(trained: Trained) -> None:
    workshop, summary = trained("causal_lm")
    with pytest.raises(ConfigError, match="gpt2 has no masked_lm head, only causal_lm, classify"):
        begun(workshop, "mlm", *from_(summary["checkpoint"]))


def test_a_newer_format_is_refused(workshop: Workshop, trained: Trained, tmp_path: Path) -> None:
    _, summary = trained("mlm")
    newer = tmp_path / "checkpoint-12"
    shutil.copytree(summary["checkpoint"], newer)
    manifest = json.loads((newer / "MANIFEST.json").read_text())
    (newer / "MANIFEST.json").write_text(json.dumps(manifest | {"version": 2}, sort_keys=True, indent=1) + "\n")
    with pytest.raises(CheckpointError, match="format version 2; this instar reads version 1"):
        begun(workshop, "classify", *from_(newer))


def test_a_rotary_model_is_taken_to_longer_documents_than_it_was_trained_on(workshop: Workshop) -> None:
    rotary = "model={config: modernbert, num_layers: 2, hidden_size: 32, num_heads: 2, max_length: 12}"
    short = ["train.budget=2 steps", "train.eval_every=null", "data.max_length=12"]
    first = workshop.train("mlm", [rotary, *short], name="short")["checkpoint"]
    with pytest.raises(ConfigError, match=r"data\.max_length: .* 12, .*model\.max_length: 30"):
        begun(workshop, "mlm", *from_(first), "data.max_length=30")
    longer = [*from_(first, "max_length: 30"), "data.max_length=30"]
    second = workshop.train("mlm", [*longer, "train.budget=2 steps"], name="long")
    assert math.isfinite(second["eval_loss"])
    assert math.isfinite(evaluate(Path(second["checkpoint"]), split="eval")["loss"])
    resumed = workshop.train("mlm", [*longer, "train.budget=3 steps"], name="long")
    assert math.isfinite(resumed["eval_loss"]), "goes on from its own checkpoint"
