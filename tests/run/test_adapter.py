"""Runs that train an adapter beside a frozen model: what is trained, saved, resumed and used, and what PEFT loads."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from instar.core.errors import CheckpointError, ConfigError, DataError, InputMissingError
from instar.core.files.json_files import read_lines
from instar.data import Batch
from instar.model import Crossing, FromFolder, build_network, gather
from instar.model.adapter import Lora, with_effect
from instar.run.saved import take_up
from instar.run.train import train
from instar.trainer import Callback, StepResult, TrainState
from instar.use.evaluate import evaluate
from instar.use.generate import generate
from instar.use.predict import predict
from tests.model.helpers import (
    CAUSAL,
    MASKED,
    Words,
    assert_same_gradients,
    batch,
    mean_loss,
    network,
    padded,
    prepared,
)
from tests.run.conftest import Workshop

Trained = Callable[[str], tuple[Workshop, dict[str, Any]]]
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # PEFT's own call
LORA = "adapter: {kind: lora, rank: 4, alpha: 8}"
AUTOS = {
    "masked_lm": AutoModelForMaskedLM,
    "causal_lm": AutoModelForCausalLM,
    "classify": AutoModelForSequenceClassification,
}


class Dies(Callback):
    """Stands for a SIGKILL after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def step_ended(self, state: TrainState, result: StepResult) -> None:
        if state.step == self.step:
            raise KeyboardInterrupt


def adapted(base: str | Path, *more: str) -> list[str]:
    return [f"model={{{', '.join([f'from: {base}', *more, LORA])}}}", "tokenizer=null"]


def theirs(checkpoint: Path, base: Path, head: str, **options: Any) -> Any:
    """The adapter in PEFT's own hands, beside its base in Transformers'."""
    return PeftModel.from_pretrained(AUTOS[head].from_pretrained(base, **options), checkpoint).eval()


@pytest.mark.parametrize(("start", "task"), [("mlm", "mlm"), ("causal_lm", "causal_lm"), ("mlm", "classify")])
def test_an_adapter_is_trained_saved_and_loaded_by_peft(
    start: str, task: str, trained: Trained, tmp_path: Path
) -> None:
    workshop, summary = trained(start)
    base = Path(summary["checkpoint"])
    result = workshop.train(task, adapted(base), name=f"adapted-{task}-of-{start}")
    checkpoint = Path(result["checkpoint"])
    assert not (checkpoint / "model.safetensors").exists()
    saved = load_file(checkpoint / "adapter_model.safetensors")
    assert any(".lora_A." in name for name in saved)
    assert all(".lora_" in name or "classifier" in name or "pooler" in name for name in saved)
    held = {name.partition("::")[0] for name in load_file(checkpoint / "optimizer.safetensors")}
    assert len(held) == len(saved)
    ours = take_up(checkpoint)
    head = ours.task.head
    options = {"num_labels": 2} if head == "classify" else {}
    peft = theirs(checkpoint, base, head, **options)
    ready = one_document(5, 6, 7, 8, 9)
    with torch.no_grad():
        wanted = peft(input_ids=ready.ids_T[None]).logits
        got = ours.network(ready).logits_MV()
    torch.testing.assert_close(got, wanted[0] if head != "classify" else wanted, rtol=1e-4, atol=1e-5)
    with peft.disable_adapter(), torch.no_grad():
        assert head == "classify" or not torch.allclose(peft(input_ids=ready.ids_T[None]).logits, wanted, atol=1e-4)


def one_document(*ids: int) -> Batch:
    return replace(batch((len(ids),)), ids_T=torch.tensor(ids))


def test_the_base_stays_and_the_same_file_comes_from_a_resumed_run(trained: Trained, tmp_path: Path) -> None:
    workshop, summary = trained("mlm")
    base = Path(summary["checkpoint"])
    more = [*adapted(base, "dropout: 0.1"), "train.average={decay: 0.9}", "train.eval_every=3 steps"]
    before = sha256((base / "model.safetensors").read_bytes()).hexdigest()
    whole = Path(workshop.train("classify", more, name="whole")["checkpoint"])
    cache = f"data.cache={workshop.folder / 'cache'}"
    with pytest.raises(KeyboardInterrupt):
        train(workshop.run_file("classify"), [cache, *more], output=tmp_path / "run", extra=[Dies(8)])
    again = Path(train(workshop.run_file("classify"), [cache, *more], output=tmp_path / "run")["checkpoint"])
    assert sha256((base / "model.safetensors").read_bytes()).hexdigest() == before
    for path in whole.glob("*.safetensors"):
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert (whole / "adapter_config.json").read_bytes() == (again / "adapter_config.json").read_bytes()
    curves = [
        [line["loss"] for line in read_lines(folder / "metrics.jsonl")] for folder in (whole.parent, again.parent)
    ]
    assert curves[0] == curves[1]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, Path, Path]:
    """A workshop whose base may be damaged: (workshop, base, adapter)."""
    workshop = Workshop(tmp_path_factory.mktemp("own"))
    base = Path(workshop.train("causal_lm")["checkpoint"])
    return workshop, base, Path(workshop.train("causal_lm", adapted(base), name="adapter")["checkpoint"])


def test_verbs_take_an_adapter(own: tuple[Workshop, Path, Path], tmp_path: Path) -> None:
    _, base, checkpoint = own
    logged = [line for line in read_lines(checkpoint.parent / "metrics.jsonl") if line["split"] == "eval"]
    assert evaluate(checkpoint)["loss"] == pytest.approx(logged[-1]["loss"], rel=1e-6)
    assert evaluate(checkpoint)["loss"] != pytest.approx(evaluate(base)["loss"], rel=1e-6)
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "the small river"}) + "\n")
    predict(checkpoint, input_file=tmp_path / "texts.jsonl", output=tmp_path / "said.jsonl")
    assert len(read_lines(tmp_path / "said.jsonl")) == 1
    assert generate(checkpoint, "the small", ("max_new_tokens=3",), log=lambda _: None)["tokens"] <= 3


def test_a_base_that_is_missing_or_another_is_refused(own: tuple[Workshop, Path, Path], tmp_path: Path) -> None:
    _, base, checkpoint = own
    aside = tmp_path / "aside"
    base.rename(aside)
    try:
        with pytest.raises(InputMissingError, match=f"is an adapter of the model {base}, which is not there"):
            evaluate(checkpoint)
        shutil.copytree(base.with_name("checkpoint-6"), base)
        with pytest.raises(CheckpointError, match="another is there now"):
            evaluate(checkpoint)
    finally:
        shutil.rmtree(base, ignore_errors=True)
        aside.rename(base)
    evaluate(checkpoint)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.adapter.target_modules=[querry]"], "linear modules are named"),
        (["train.frozen=['*embed*']"], "model.adapter says what is trained"),
        (["train.trainable=['*']"], "model.adapter says what is trained"),
        (["train.parallel={tp: 2}"], "cannot be divided"),
        (["model.with_optimizer=true"], "leave with_optimizer and resize_embeddings out"),
    ],
)
def test_what_does_not_go_together_is_refused(
    overrides: list[str], said: str, own: tuple[Workshop, Path, Path]
) -> None:
    workshop, base, _ = own
    with pytest.raises(ConfigError, match=said):
        workshop.train("causal_lm", [*adapted(base), *overrides], name="refused")


def test_a_new_head_that_is_tied_to_the_frozen_table_is_refused(trained: Trained) -> None:
    workshop, summary = trained("classify")
    with pytest.raises(DataError, match="the head is new and shares"):
        workshop.train("mlm", [*adapted(summary["checkpoint"]), "tokenizer=null"], name="refused")


def test_an_adapter_is_no_model_to_begin_from(own: tuple[Workshop, Path, Path]) -> None:
    workshop, _, checkpoint = own
    with pytest.raises(DataError, match="this is an adapter"):
        workshop.train("causal_lm", [f"model={{from: {checkpoint}}}", "tokenizer=null"], name="refused")


# ---- the fast path ----


@pytest.mark.parametrize("family", [*MASKED, *CAUSAL])
@pytest.mark.parametrize("targets", ["[default]", "all-linear"])
def test_packed_rows_of_an_adapted_model_equal_padded_ones(family: str, targets: str, tmp_path: Path) -> None:
    """With updates that are not zero: loss and gradients of PEFT's own model, on the fast path."""
    head = "masked_lm" if family in MASKED else "causal_lm"
    network(family, head).save(tmp_path)
    chosen = None if targets == "[default]" else "all-linear"
    if chosen is None and family in {"modernbert", "albert", "distilbert"}:
        chosen = "all-linear"
    source = FromFolder(path=str(tmp_path), adapter=Lora(rank=2, target_modules=chosen))
    ours = build_network(Crossing(source=source), head=head, tokenizer=Words(), seed=1).train()
    assert ours.is_packed
    with with_effect(ours.model):
        (tmp_path / "adapter").mkdir()
        ours.save(tmp_path / "adapter")
        ready = prepared(head)
        loss = mean_loss(ours, ready)
        loss.backward()
        peft = theirs(tmp_path / "adapter", tmp_path, head, attn_implementation="sdpa")
        for name, parameter in peft.named_parameters():
            parameter.requires_grad_("lora_" in name)
        wanted = peft(**padded(ready, head)).loss
        wanted.backward()
    assert abs(loss.item() - wanted.item()) <= 1e-6
    assert_same_gradients(ours.model, peft.base_model.model)


def test_a_fast_path_that_ignores_the_adapter_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: the gathered last layer reads the frozen projection alone."""

    def ignores(joint: Any, normed_TH: Any, pack: Any) -> Any:
        q, k, v = joint.base_layer(normed_TH).chunk(3, -1)
        return pack.read(q), k, v

    network("modernbert").save(tmp_path)
    source = FromFolder(path=str(tmp_path), adapter=Lora(target_modules="all-linear"))
    assert build_network(Crossing(source=source), head="masked_lm", tokenizer=Words(), seed=1).can_gather
    monkeypatch.setattr(gather, "_projected", ignores)
    ours = build_network(Crossing(source=source), head="masked_lm", tokenizer=Words(), seed=1)
    assert ours.is_packed
    assert not ours.can_gather
