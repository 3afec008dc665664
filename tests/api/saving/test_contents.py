"""What is in a checkpoint of the Trainer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import nn

from instar.api.checkpoints.weights import distinct, load_weights, save_weights
from instar.checkpoint.protocol import verify
from instar.core.errors import CheckpointError
from tests.api.saving_parts import PLAIN, Tied, bert, make, weights


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


def test_the_state_of_another_optimizer_is_an_error(copy: Path) -> None:
    with pytest.raises(ValueError, match=r"of another optimizer or other parameters.*it has no dampening, momentum"):
        make(copy, optim="sgd").train(resume_from_checkpoint=str(copy / "checkpoint-4"))


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
