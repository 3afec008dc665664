"""What both sides train: data, run file, initial weights and the order of the samples, made once for a comparison."""

import gzip
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EMBEDDED = "embedded:"
SEED = 3
LR = 5e-4
BETAS = (0.9, 0.98)
WEIGHT_DECAY = 0.01


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One comparison; `steps` are what a round times, `warm` the steps before."""

    name: str
    title: str
    task: str
    layers: int
    width: int
    heads: int
    batch: int
    stock_steps: int
    steps: int
    warm: int = 4
    max_length: int | None = None
    goal: float = 1.0
    """At least so many times the stock Trainer."""

    def flops_per_token(self, vocabulary: int, mean_length: float) -> float:
        """Useful operations of forward and backward for one real token, the head on targets only."""
        share = {"mlm": 0.15, "causal_lm": 1.0, "classify": 0.0}[self.task]
        head = share * 6 * self.width * (vocabulary + (self.width if self.task == "mlm" else 0))
        seen = mean_length / 2 if self.task == "causal_lm" else mean_length
        return 6 * self.layers * 12 * self.width**2 + 12 * self.layers * self.width * seen + head


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            name="a", title="MLM, BERT 4 x 256, V 30,522, 32 sentences", task="mlm", layers=4, width=256, heads=4,
            batch=32, stock_steps=7, steps=28, max_length=512, goal=10.0,
        ),
        Workload(
            name="b", title="MLM, BERT 6 x 512, V 30,522, 32 sentences", task="mlm", layers=6, width=512, heads=8,
            batch=32, stock_steps=4, steps=12, max_length=512, goal=9.0,
        ),
        Workload(
            name="c", title="MLM on DNA, BERT 6 x 384, 6-mers, 8 x 512 tokens", task="mlm", layers=6, width=384,
            heads=6, batch=8, stock_steps=4, steps=7, max_length=512, goal=2.0,
        ),
        Workload(
            name="d", title="GPT-2 6 x 384, V 50,257, 8 x 256 tokens", task="causal_lm", layers=6, width=384, heads=6,
            batch=8, stock_steps=4, steps=7, max_length=256, goal=2.4,
        ),
        Workload(
            name="e", title="classify, BERT 6 x 384, 32 short sentences", task="classify", layers=6, width=384,
            heads=12, batch=32, stock_steps=12, steps=28, max_length=64, goal=3.5,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """Where the parts of a comparison lie, and what they are."""

    folder: Path
    facts: dict[str, Any]

    @property
    def run_file(self) -> Path:
        return self.folder / "run.yaml"

    @property
    def model(self) -> Path:
        return self.folder / "init"

    @classmethod
    def load(cls, folder: Path) -> "Prepared":
        return cls(folder, json.loads((folder / "facts.json").read_text()))

    def samples(self) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Token ids of each sample in the order of training, and the labels where there are any."""
        ids = np.load(self.folder / "ids.npy", allow_pickle=False)
        lengths = np.load(self.folder / "lengths.npy", allow_pickle=False)
        labels = self.folder / "labels.npy"
        cuts = np.cumsum(lengths)[:-1]
        return np.split(ids, cuts), np.load(labels, allow_pickle=False) if labels.is_file() else None


def reference_data() -> Path | None:
    """The folder of reference data, or None where there is none."""
    named = os.environ.get("INSTAR_DATA")
    path = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return path if path.is_dir() else None


def prepare(workload: Workload, folder: Path, num_steps: int) -> Prepared:
    """Write the run file, the initial weights, and the samples of the first `num_steps` steps in their order."""
    from rich.console import Console

    from instar.config.load import load
    from instar.core.rundir import RunFolder
    from instar.run.config import RunConfig
    from instar.run.prepare import prepare as prepare_run
    from instar.trainer import Runtime

    folder.mkdir(parents=True)
    config, notes = run_config(workload, folder, num_steps)
    (folder / "run.yaml").write_text(json.dumps(config, indent=2))
    loaded = load(folder / "run.yaml", RunConfig, ())
    run = prepare_run(
        loaded.value, RunFolder(folder / "unused"), Runtime.start("cpu"), None, console=Console(quiet=True)
    )
    run.state.network.save(folder / "init")
    samples = run.steps.stream.samples
    steps = run.steps.stream.steps(0)
    batches = [next(steps) for _ in range(num_steps)]
    np.save(folder / "ids.npy", np.concatenate([batch.ids_T.numpy() for batch in batches]))
    lengths = np.concatenate([np.asarray(batch.lengths) for batch in batches])
    np.save(folder / "lengths.npy", lengths)
    if workload.task == "classify":
        np.save(folder / "labels.npy", np.concatenate([batch.labels_D.numpy() for batch in batches]))
    tokenizer = samples.tokenizer  # type: ignore[attr-defined]
    names = ("pad_id", "unk_id", "cls_id", "sep_id", "mask_id", "bos_id", "eos_id")
    facts = {
        "workload": workload.name,
        "notes": notes,
        "vocabulary": tokenizer.vocab_size,
        "specials": {name[:-3]: getattr(tokenizer, name) for name in names if getattr(tokenizer, name) is not None},
        "mean_length": float(lengths.mean()),
        "parameters": run.state.network.num_parameters,
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    return Prepared(folder, facts)


def run_config(workload: Workload, folder: Path, num_steps: int) -> tuple[dict[str, Any], list[str]]:
    """The run file of a workload, and what is to be said about its data."""
    source, tokenizer, notes = _data(workload, folder)
    architecture = "gpt2" if workload.task == "causal_lm" else "bert"
    config = {
        "seed": SEED,
        "model": {
            "config": architecture, "num_layers": workload.layers, "hidden_size": workload.width,
            "num_heads": workload.heads, "dropout": 0.1, "max_length": workload.max_length,
        },
        "tokenizer": tokenizer,
        "task": {"kind": workload.task},
        "data": {
            "train": source, "max_length": workload.max_length, "cache": str(folder / "cache"),
            "too_long": "truncate" if workload.task == "classify" else "window",
        },
        "train": {
            "budget": f"{num_steps} steps", "batch_samples": workload.batch, "schedule": {"kind": "constant"},
            "optimizer": {"kind": "adamw", "lr": LR, "betas": list(BETAS), "weight_decay": WEIGHT_DECAY},
            "max_norm": 1.0, "device": "cpu", "log_every": 10,
        },
    }  # fmt: skip
    return config, notes


def _data(workload: Workload, folder: Path) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(source, tokenizer, notes): the reference data, or what the package embeds where they are absent."""
    reference = reference_data()
    notes = [] if reference else ["the reference data are absent: embedded data instead"]
    learnt = {"kind": "wordpiece", "vocab_size": 30_522}
    if workload.name == "c":
        path = reference / "genomes" / "ecoli536_NC_008253.fna.gz" if reference else f"{EMBEDDED}yeast_chrI.fa.gz"
        return {"kind": "fasta", "path": str(path)}, {"kind": "kmer", "k": 6}, notes
    if workload.name == "d":
        speeches = {"kind": "text", "path": f"{EMBEDDED}speeches.txt.gz"}
        if reference is None:
            return speeches, {"kind": "bpe", "vocab_size": 50_257}, notes
        tokenizers = folder / "gpt2"
        tokenizers.mkdir()
        shutil.copy(reference / "tokenizers" / "gpt2_encoder.json", tokenizers / "vocab.json")
        shutil.copy(reference / "tokenizers" / "gpt2_vocab.bpe", tokenizers / "merges.txt")
        return speeches, {"kind": "from_folder", "from": str(tokenizers)}, notes
    tokenizer = learnt
    if reference is not None:
        tokenizers = folder / "bert"
        tokenizers.mkdir()
        shutil.copy(reference / "tokenizers" / "bert_base_uncased_vocab.txt", tokenizers / "vocab.txt")
        tokenizer = {"kind": "from_folder", "from": str(tokenizers)}
    if workload.name == "e":
        return _movies(folder), tokenizer, notes
    if reference is None:
        return {"kind": "text", "path": f"{EMBEDDED}speeches.txt.gz", "documents": "line"}, tokenizer, notes
    return _brown(reference, folder), tokenizer, notes


def _brown(reference: Path, folder: Path) -> dict[str, Any]:
    """Brown's sentences, one a line, without the headings of its files."""
    with gzip.open(reference / "text" / "brown_plain.txt.gz", "rt", encoding="utf-8") as file:
        sentences = [line for line in file if line.strip() and not line.startswith("=")]
    (folder / "brown.txt").write_text("".join(sentences), encoding="utf-8")
    return {"kind": "text", "path": str(folder / "brown.txt"), "documents": "line"}


def _movies(folder: Path) -> dict[str, Any]:
    """Film sentences with the sign of their mean rating as label."""
    from importlib.resources import files

    embedded = files("instar.data") / "embedded" / "movies.tsv.gz"
    rows = gzip.decompress(embedded.read_bytes()).decode().splitlines()[1:]
    cells = [row.split("\t") for row in rows]
    table = ["label\ttext"] + [f"{'bad' if float(rating) < 0 else 'good'}\t{text}" for _, rating, text in cells]
    (folder / "movies.tsv").write_text("\n".join(table) + "\n", encoding="utf-8")
    return {"kind": "csv", "path": str(folder / "movies.tsv"), "text": "text", "label": "label"}
