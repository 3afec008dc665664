"""Small language models, data and trainers for tests of checkpoints; also what killed processes run."""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from instar import Trainer, TrainingArguments
from instar.api.checkpoints import names

TIMED = ("runtime", "per_second")
VOCABULARY = 50
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


class Sentences(Dataset):
    """Rows of 4 to 12 tokens, the same in every process."""

    def __init__(self, length: int = 24) -> None:
        source = torch.Generator().manual_seed(0)
        sizes = torch.randint(4, 13, (length,), generator=source).tolist()
        self.rows = [torch.randint(5, VOCABULARY, (size,), generator=source) for size in sizes]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index]}


class Stream(IterableDataset):
    """The same rows, one after the other, and over again."""

    def __init__(self) -> None:
        self.rows = Sentences()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield from (self.rows[number] for number in range(len(self.rows)))


def mask(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad, and hide a third of the tokens, drawn from torch's generator."""
    return _padded(rows, torch.rand)


def mask_evenly(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Pad, and hide every third token."""
    return _padded(rows, lambda shape: (torch.arange(shape[1]) % 3).expand(shape).float())


def _padded(rows: list[dict[str, Any]], draw: Any) -> dict[str, Tensor]:
    ids = nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    hidden = (draw(ids.shape) < 0.33) & (ids > 0)
    labels = ids.masked_fill(~hidden, -100)
    return {"input_ids": ids.masked_fill(hidden, 4), "labels": labels, "attention_mask": (ids > 0).long()}


def bert(*, dropout: float = 0.1, seed: int = 1) -> nn.Module:
    """A BERT of 2 layers for masked language modelling, tied as BERT is."""
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return BertForMaskedLM(config)


class Tied(nn.Module):
    """A plain module that reads and writes with one table."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.table = nn.Embedding(VOCABULARY, 8)
        self.middle = nn.Linear(8, 8)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(8, VOCABULARY, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, attention_mask: Any = None) -> dict[str, Tensor]:
        self.seen += self.training
        logits = self.head(self.dropout(self.middle(self.table(input_ids)).tanh()))
        found = {"logits": logits}
        if labels is not None:
            found["loss"] = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return found


def make(folder: Path, model: nn.Module | None = None, **changes: Any) -> Trainer:
    """A trainer of 12 steps (2 epochs), with checkpoints after steps 4, 8 and 12."""
    parts = {
        name: changes.pop(name) for name in ("callbacks", "compute_metrics", "processing_class") if name in changes
    }
    collator = changes.pop("collator", mask)
    data = changes.pop("data", None)
    kind = changes.pop("kind", Trainer)
    return kind(
        Tied() if model is None else model,
        arguments(folder, **changes),
        data_collator=collator,
        train_dataset=Sentences() if data is None else data,
        eval_dataset=Sentences(8),
        **parts,
    )


def values(folder: Path, **changes: Any) -> dict[str, Any]:
    """Arguments that Transformers knows too."""
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "learning_rate": 1e-2,
        "save_steps": 4,
        "logging_steps": 3,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": True,
        **changes,
    }


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    return TrainingArguments(**values(folder, **changes))


def weights(model: nn.Module) -> str:
    """One SHA-256 of all that a model's state holds."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def curve(history: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was logged but for its times, and for the record that tells of one call of `train` alone."""
    kept = [row for row in history if "train_runtime" not in row]
    return [{name: row[name] for name in sorted(row) if not name.endswith(TIMED)} for row in kept]


def train(folder: str | Path, steps: int = 8, every: int = 2, **changes: Any) -> None:
    """A life of a run that may be killed: goes on from what is there."""
    place = Path(folder)
    trainer = make(place, max_steps=steps, save_steps=every, **changes)
    trainer.train(resume_from_checkpoint=any(place.glob("checkpoint-*")) or None)


def look(folder: Path) -> dict[str, Any]:
    """The curve and the weights of the newest checkpoint of a run."""
    newest = max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    model = sha256((newest / "model.safetensors").read_bytes()).hexdigest()
    return {"name": newest.name, "curve": curve(history), "weights": model}


def steps(folder: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in names.checkpoints(folder)]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])
