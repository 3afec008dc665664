"""Tiny real runs, each trained once for all tests of a process."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from instar.run.train import train

COMMON = """
model: {config: bert, num_layers: 2, hidden_size: 32, num_heads: 2, intermediate_size: 48, max_length: 34, dropout: 0.0}
train: {budget: "12 steps", batch_samples: 8, log_every: 4, eval_every: "6 steps", save_every: "6 steps",
        optimizer: {kind: adamw, lr: 5e-3}, schedule: {kind: linear, warmup: 0.1}}
"""
TASKS = {
    "mlm": """
tokenizer: {kind: character}
task: {kind: mlm}
data: {train: {kind: text, path: lines.txt, documents: line}, eval: {split: 0.2}, max_length: 34, too_long: truncate}
""",
    "causal_lm": """
tokenizer: {kind: bpe, vocab_size: 300}
task: {kind: causal_lm}
data: {train: {kind: text, path: lines.txt, documents: line}, eval: {split: 0.2}, max_length: 34, too_long: truncate}
""",
    "classify": """
tokenizer: {kind: wordpiece, vocab_size: 200}
task: {kind: classify}
data:
  train: {kind: csv, path: rows.csv, label: kind}
  eval: {split: 0.2}
  test: {kind: csv, path: rows.csv, label: kind}
  max_length: 34
  too_long: truncate
""",
    "regress": """
tokenizer: {kind: wordpiece, vocab_size: 200}
task: {kind: classify, pooling: mean}
data: {train: {kind: csv, path: rows.csv, label: size, label_kind: number}, eval: {split: 0.2}, max_length: 34,
       too_long: truncate}
""",
    "many": """
tokenizer: {kind: wordpiece, vocab_size: 200}
task: {kind: classify}
data: {train: {kind: csv, path: rows.csv, label: traits, label_kind: many, label_separator: "|"}, eval: {split: 0.2},
       max_length: 34, too_long: truncate}
""",
}
_WORDS = ("the", "small", "river", "mountain", "runs", "sleeps", "under", "bright", "dark", "stone", "bird", "sings")


def write_data(folder: Path) -> None:
    """Text of few words, and rows whose labels can be read off the text."""
    lines, rows = [], ["text,kind,size,traits"]
    for number in range(60):
        words = [_WORDS[(number * step + step) % len(_WORDS)] for step in range(1, 5 + number % 4)]
        lines.append(" ".join(words))
        traits = "|".join(trait for trait in ("bird", "stone", "dark") if trait in words)
        rows.append(f"{lines[-1]},{'bird' if 'bird' in words else 'other'},{len(words)},{traits or 'none'}")
    (folder / "lines.txt").write_text("\n".join(lines) + "\n")
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")


class Workshop:
    """A folder with data in which runs are trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_data(folder)

    def run_file(self, task: str) -> Path:
        """The run file of a task, with paths that hold from anywhere."""
        text = COMMON + TASKS[task]
        for name in ("lines.txt", "rows.csv"):
            text = text.replace(f"path: {name}", f'path: "{self.folder / name}"')
        if task == "causal_lm":
            text = text.replace("config: bert", "config: gpt2")
        path = self.folder / f"{task}.yaml"
        path.write_text(text)
        return path

    def train(self, task: str, overrides: Sequence[str] = (), name: str | None = None) -> dict[str, Any]:
        """Train a task; the run folder is called after it."""
        cache = f"data.cache={self.folder / 'cache'}"
        return train(self.run_file(task), [cache, *overrides], output=self.folder / (name or task))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Workshop, dict[str, Any]]]:
    """Task -> the workshop and the summary of its finished run."""
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    summaries: dict[str, dict[str, Any]] = {}

    def get(task: str) -> tuple[Workshop, dict[str, Any]]:
        if task not in summaries:
            summaries[task] = workshop.train(task)
        return workshop, summaries[task]

    return get


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """A folder of one's own."""
    return Workshop(tmp_path)
