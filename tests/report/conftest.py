"""A run folder as training leaves it, made without training."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

PARAGRAPH = (
    "The State of the Union is strong because our people are strong.\n"
    "We will build the roads, the schools and the peace that our children deserve."
)
RUN_FILE = """\
model:
  config: bert  # run.yaml:2
  num_layers: 4  # run.yaml:3
  hidden_size: 256  # default
task:
  kind: mlm  # run.yaml:5
  rate: 0.15  # default
train:
  budget: 2000 steps  # run.yaml:8
  batch_tokens: 16384  # default
  optimizer:
    kind: adamw  # default
    lr: 0.0005  # command line
"""


def write_lines(path: Path, values: Iterable[object]) -> None:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")


def train_lines(num_steps: int, rng: np.random.Generator) -> list[dict]:
    lines = []
    for step in range(10, num_steps + 1, 10):
        loss = 2.0 + 6.0 * np.exp(-step / 300) + rng.normal(0, 0.15)
        speed = 9000 + rng.normal(0, 400)
        rate = 5e-4 * min(1, step / 100, 1.02 - step / num_steps)
        lines.append({
            "step": step, "samples": step * 32, "tokens": step * 730, "seconds": step / 12, "split": "train",
            "loss": loss, "masked_accuracy": float(np.clip(0.65 - loss / 14 + rng.normal(0, 0.01), 0, 1)),
            "lr": rate, "grad_norm": float(np.exp(rng.normal(0, 0.3))), "tokens_per_second": speed,
        })  # fmt: skip
    return lines


def mlm_sample(step: int, rng: np.random.Generator) -> dict:
    tokens = []
    for letter in PARAGRAPH:
        token: dict = {"text": letter, "masked": bool(rng.random() < 0.2)}
        if token["masked"]:
            right = bool(rng.random() < 0.7)
            guess = letter if right else "e"
            token |= {"guess": guess, "probability": float(rng.uniform(0.2, 1)), "right": guess == letter}
        tokens.append(token)
    return {"step": step, "kind": "mlm", "tokens": tokens}


def word_sample(step: int) -> dict:
    words = ["the", "trans", "##form", "##er", "reads", "a", "sequence", "of", "tokens"]
    tokens: list[dict] = [{"text": word, "masked": False} for word in words]
    tokens[4] = {"text": "reads", "masked": True, "guess": "is", "probability": 0.31, "right": False}
    tokens[6] = {"text": "sequence", "masked": True, "guess": "sequence", "probability": 0.88, "right": True}
    return {"step": step, "kind": "mlm", "tokens": tokens}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a realistic run folder: a killed and resumed masked language model with every kind of sample."""

    def make(name: str = "speeches", num_steps: int = 1200, only: tuple[str, ...] = ()) -> Path:
        rng = np.random.default_rng(11)
        run = tmp_path / name
        (run / "checkpoint-1000").mkdir(parents=True)
        (run / "checkpoint-1000" / "MANIFEST.json").write_text("{}")
        (run / "checkpoint-1000" / "model.safetensors").write_bytes(bytes(1_250_000))
        (run / "checkpoint-1200").mkdir()
        (run / "run.yaml").write_text(RUN_FILE)
        lines = train_lines(num_steps, rng)
        for step in range(0, num_steps + 1, 100):
            loss = 2.1 + 6.0 * np.exp(-step / 300)
            share = 0.62 - loss / 14
            lines.append({
                "step": step, "split": "eval", "loss": loss, "perplexity": float(np.exp(loss)),
                "masked_accuracy": share, "samples": step * 32, "tokens": step * 730, "seconds": step / 12,
            })  # fmt: skip
        lines.append({
            "step": num_steps, "split": "test", "accuracy": 0.86, "f1": 0.85, "matthews": 0.79, "loss": 0.4,
            "confusion": [[150, 9, 6], [5, 70, 2], [8, 10, 58]], "labels": ["neither", "donor", "acceptor"],
        })  # fmt: skip
        if only:
            lines = [{key: value for key, value in line.items() if key in ("step", "split", *only)} for line in lines]
        write_lines(run / "metrics.jsonl", lines)
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"step": 1210, "split": "train", "lo')  # torn: the process was killed here
        write_lines(
            run / "samples.jsonl",
            [
                mlm_sample(0, rng), mlm_sample(num_steps, rng), word_sample(num_steps),
                {"step": num_steps, "kind": "classify", "text": "CCAGCTGCATCACAGGAGGCC", "label": "donor",
                 "prediction": "donor", "probability": 0.93},
                {"step": num_steps, "kind": "classify", "text": "AGACCCGCCGGGAGGCGGAGG", "label": "acceptor",
                 "prediction": "neither", "probability": 0.51},
                {"step": num_steps, "kind": "causal_lm", "prompt": "My fellow citizens,",
                 "completion": " the nation has the great work of the people, and the peace of the world"},
            ],
        )  # fmt: skip
        return run

    return make
