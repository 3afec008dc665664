"""Folders that are no whole model, or one made to harm: refused with what they are, before memory or time is spent."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from instar.core.errors import ConfigError, DataError, InputMissingError, InstarError
from instar.data.tokenizer import Tokenizer, WordPiece, build_tokenizer
from instar.model import size
from instar.run.begin import Origin
from instar.use.fill_mask import fill_mask
from tests.run.conftest import Workshop

SIZE = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}


def bert(folder: Path, kind: Any = transformers.BertForMaskedLM) -> Path:
    tokenizer: Tokenizer = build_tokenizer(WordPiece(vocab_size=60), lambda: iter(["the river runs"] * 9))
    config = transformers.BertConfig(**SIZE, vocab_size=tokenizer.vocab_size, max_position_embeddings=16)
    with torch.random.fork_rng():
        kind(config).save_pretrained(folder)
    tokenizer.save(folder, "encoder")
    (folder / "instar_tokenizer.json").unlink()
    return folder


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def adapter(folder: Path) -> Path:
    (folder / "adapter_config.json").write_text("{}")
    return folder


def gguf_file(folder: Path) -> Path:
    path = folder / "m.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0")
    return path


def gguf_folder(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return gguf_file(folder).parent


def pointer(name: str) -> Any:
    def changed(folder: Path) -> Path:
        (folder / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n")
        return folder

    return changed


def broken_link(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blobs/gone")
    return folder


def pipe(folder: Path) -> Path:
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    return folder


def hub_cache(folder: Path) -> Path:
    cache = folder.parent / "models--x--y"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    return cache


def nan_weights(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    save_file(weights | {name: weights[name] * torch.nan}, folder / "model.safetensors", {"format": "pt"})
    return folder


def values(**given: Any) -> Any:
    def changed(folder: Path) -> Path:
        change(folder, **given)
        return folder

    return changed


def deep(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "bert", "a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    return folder


def shards(name: str, *, is_link: bool = False) -> Any:
    """Weights outside of the folder, which its index names."""

    def moved(folder: Path) -> Path:
        outside = folder.parent / "outside.safetensors"
        (folder / "model.safetensors").rename(outside)
        names = {tensor: name.format(outside) for tensor in load_file(outside)}
        if is_link:
            (folder / name).symlink_to(outside)
        else:
            (folder / "model-2.safetensors").write_bytes(outside.read_bytes())
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
        return folder

    return moved


def no_index(folder: Path) -> Path:
    (folder / "model.safetensors.index.json").write_text("[" * 100_000)
    return folder


@pytest.mark.parametrize(
    ("spoilt", "error", "words"),
    [
        (adapter, DataError, "is an adapter"),
        (gguf_file, DataError, "this is a GGUF file"),
        (gguf_folder, DataError, "GGUF format"),
        (pointer("model.safetensors"), DataError, "is a pointer of Git LFS"),
        (pointer("tokenizer.json"), DataError, "is a pointer of Git LFS"),
        (broken_link, InputMissingError, "which does not exist"),
        (pipe, DataError, "is no plain file"),
        (hub_cache, InputMissingError, "did you mean .*snapshots/abc"),
        (nan_weights, DataError, "NaN or infinite weights in bert.embeddings.word_embeddings.weight"),
        (values(num_hidden_layers=1_000_000), DataError, "num_hidden_layers is 1,000,000"),
        (values(num_labels=100_000_000), DataError, "num_labels is 100,000,000"),
        (values(quantization_config={"quant_method": "gptq"}), DataError, "is quantised"),
        (deep, DataError, "expected|wanted"),
        (shards("../outside.safetensors"), DataError, "expected names of files in this folder alone"),
        (shards("{}"), DataError, "expected names of files in this folder alone"),
        (shards("model-1.safetensors", is_link=True), DataError, "is a link out of its folder"),
        (no_index, DataError, "expected an index of weights"),
    ],
)
def test_what_is_no_whole_model_is_named(tmp_path: Path, spoilt: Any, error: type[InstarError], words: str) -> None:
    folder = spoilt(bert(tmp_path / "model"))
    with pytest.raises(error, match=words):
        fill_mask(folder, "the [MASK] runs")


def test_many_empty_tensors_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bert(tmp_path / "model")
    monkeypatch.setattr("instar.model.load._MAX_TENSORS", 10)
    with pytest.raises(DataError, match="expected at most 10"):
        fill_mask(folder, "the [MASK] runs")


def test_a_snapshot_whose_files_are_links_is_read(tmp_path: Path) -> None:
    blobs = bert(tmp_path / "blobs")
    snapshot = tmp_path / "models--x--y" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for path in blobs.iterdir():
        (snapshot / path.name).symlink_to(path)
    found, wanted = (fill_mask(folder, "the [MASK] runs")["fills"] for folder in (snapshot, blobs))
    assert found == wanted


def test_a_pretraining_checkpoint_keeps_its_masked_head(tmp_path: Path) -> None:
    folder = bert(tmp_path / "two", transformers.BertForPreTraining)
    assert Origin.of(folder).head == "masked_lm"
    model = transformers.BertForPreTraining.from_pretrained(folder).eval()
    batch = transformers.AutoTokenizer.from_pretrained(folder)("the [MASK] runs", return_tensors="pt")
    with torch.no_grad():
        best = model(**batch).prediction_logits[0, 2].softmax(-1).max()
    assert fill_mask(folder, "the [MASK] runs")["fills"][0][0]["probability"] == pytest.approx(float(best), rel=1e-3)


def test_a_network_that_no_memory_holds_is_refused_before_it_is_made(workshop: Workshop) -> None:
    with pytest.raises(ConfigError, match="GB of memory"):
        workshop.train("mlm", ["model.num_layers=2000", "model.hidden_size=16384", "model.num_heads=16"], "run")
    with pytest.raises(ConfigError, match="GB of memory"):
        workshop.train("mlm", ["model.num_layers=1000000000"], "run")
    assert not (workshop.folder / "run").exists()


def test_the_estimated_size_is_the_size() -> None:
    config = transformers.BertConfig(**SIZE | {"num_hidden_layers": 40}, vocab_size=60)
    model = transformers.BertForMaskedLM(config)
    assert size.num_parameters(type(model), config) == model.num_parameters()


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
def test_a_protein_model_fills_masks_as_transformers_does(tmp_path: Path, positions: str) -> None:
    words = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWC", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.EsmTokenizer(str(tmp_path / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    ids = {"vocab_size": len(words), "pad_token_id": 1, "mask_token_id": len(words) - 1}
    config = transformers.EsmConfig(
        **SIZE, **ids, position_embedding_type=positions, max_position_embeddings=16, initializer_range=0.4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.EsmForMaskedLM(config).eval()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        best = model(**tokenizer("MKT<mask>LA", return_tensors="pt")).logits[0, 4].softmax(-1).max()
    assert fill_mask(tmp_path, "MKT[MASK]LA")["fills"][0][0]["probability"] == pytest.approx(float(best), rel=1e-3)
    fill_mask(tmp_path, "M[MASK]" + "K" * 10)
    with pytest.raises(DataError, match=r"longer than this model takes \(14 tokens\)"):
        fill_mask(tmp_path, "M[MASK]" + "K" * 11)  # its positions are counted from the padding token on
