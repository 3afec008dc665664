"""A run on a weighted mixture: trained, resumed, evaluated and used."""

import shutil
from pathlib import Path

from instar.run.check import check
from instar.run.train import train
from instar.use.evaluate import evaluate
from tests.run.conftest import Workshop
from tests.run.test_use import read_lines

RUN = """
seed: 3
model: {{config: bert, num_layers: 1, hidden_size: 16, num_heads: 2, intermediate_size: 24, max_length: 34}}
tokenizer: {{kind: character}}
task: {{kind: mlm}}
data:
  train:
    kind: mixture
    sources:
      - {{weight: 3, source: {{kind: text, path: "{folder}/lines.txt", documents: line}}}}
      - {{weight: 1, source: {{kind: csv, path: "{folder}/rows.csv"}}}}
  eval: {{split: 0.2}}
  max_length: 34
  too_long: truncate
  cache: "{folder}/cache"
train: {{budget: "8 steps", batch_samples: 6, log_every: 2, save_every: "4 steps", keep_last: 9,
        optimizer: {{kind: adamw, lr: 5e-3}}, schedule: {{kind: linear, warmup: 0.1}}}}
"""


def test_a_run_on_a_mixture_goes_on_bit_for_bit(workshop: Workshop) -> None:
    run_file = workshop.folder / "mixture.yaml"
    run_file.write_text(RUN.format(folder=workshop.folder))
    assert check(run_file)["data"]["train"]["samples"] == 96
    whole = Path(train(run_file, output=workshop.folder / "whole")["checkpoint"])
    shutil.copytree(whole.parent, workshop.folder / "half")
    shutil.rmtree(workshop.folder / "half" / whole.name)
    again = Path(train(run_file, output=workshop.folder / "half")["checkpoint"])
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    last = [
        [line for line in read_lines(path.parent / "metrics.jsonl") if line["split"] == "eval"]
        for path in (whole, again)
    ]
    assert last[0][-1]["loss"] == last[1][-1]["loss"] == evaluate(whole)["loss"]
