"""What a Trainer adds to a bare loop: Python calls in an optimizer step, and the CPU time of its import.

python benchmarks/overhead.py     prints both tables; calls are counted, so a busy machine does not change them
"""

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
from collections.abc import Callable
from statistics import median
from typing import Any

BATCH = 8
STEPS = 24
MODELS = {"MLP, 4 tensors": "mlp", "BERT L2 h32": "2", "BERT L12 h32": "12"}
SIDES = ("bare", "instar", "transformers")
IMPORTS = {
    "instar": "from instar import Trainer, TrainingArguments",
    "transformers": "from transformers import Trainer, TrainingArguments",
}


def main() -> None:
    """Measure in processes of their own, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "MODEL"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="figures alone, as one JSON object")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(calls_per_step(*options.worker)))
        return
    calls = {name: {side: measured_calls(side, model) for side in SIDES} for name, model in MODELS.items()}
    seconds = import_seconds()
    if options.json:
        print(json.dumps({"calls": calls, "import_seconds": seconds}))
        return
    print("| model | bare loop | instar (ratio) | Transformers (ratio) |\n|---|---|---|---|")
    for name, row in calls.items():
        shown = [f"{row[side]:,.0f} ({row[side] / row['bare']:.2f})" for side in SIDES[1:]]
        print(f"| {name} | {row['bare']:,.0f} | {' | '.join(shown)} |")
    share = seconds["instar"] / seconds["transformers"]
    print(
        f"\nimport: instar {seconds['instar']:.2f} s, Transformers {seconds['transformers']:.2f} s of CPU ({share:.2f})"
    )


def measured_calls(side: str, model: str) -> float:
    """Python calls of one optimizer step, counted in a new process."""
    command = [sys.executable, __file__, "--worker", side, model]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout.splitlines()[-1])


def import_seconds(rounds: int = 3) -> dict[str, float]:
    """CPU seconds that each import costs over a bare interpreter; medians of alternating processes."""
    script = "import resource; {0}; u = resource.getrusage(resource.RUSAGE_SELF); print(u.ru_utime + u.ru_stime)"
    found: dict[str, list[float]] = {name: [] for name in ("nothing", *IMPORTS)}
    for _ in range(rounds):
        for name, line in {"nothing": "pass", **IMPORTS}.items():
            command = [sys.executable, "-c", script.format(line)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(float(done.stdout.split()[-1]))
    bare = median(found["nothing"])
    return {name: median(found[name]) - bare for name in IMPORTS}


def calls_per_step(side: str, model: str) -> float:
    """Calls between the steps 4 and 20, a step; start and end of training are left out."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, examples = _model(model)
    profile = cProfile.Profile()
    counted: list[int] = []

    def step_ended(number: int) -> None:
        profile.disable()
        if number in (4, 20):
            counted.append(pstats.Stats(profile).total_calls if number == 20 else _calls(profile))
        profile.enable()

    run = {"bare": _bare, "instar": _trainer("instar"), "transformers": _trainer("transformers")}[side]
    profile.enable()
    run(network, examples, step_ended)
    profile.disable()
    return (counted[1] - counted[0]) / 16


def _calls(profile: cProfile.Profile) -> int:
    return int(pstats.Stats(profile).total_calls)


def _model(name: str) -> tuple[Any, list[dict[str, Any]]]:
    import torch
    from torch import nn

    if name == "mlp":

        class Perceptron(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

            def forward(self, x: Any, labels: Any) -> dict[str, Any]:
                logits = self.layers(x)
                return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

        rows: list[dict[str, Any]] = [{"x": torch.randn(8), "labels": number % 2} for number in range(BATCH * STEPS)]
        return Perceptron(), rows
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=int(name), num_attention_heads=2, intermediate_size=64
    )
    rows = [
        {"input_ids": torch.randint(5, 100, (16,)), "attention_mask": torch.ones(16, dtype=torch.int64), "labels": 1}
        for _ in range(BATCH * STEPS)
    ]
    return BertForSequenceClassification(config), rows


def _bare(model: Any, examples: list[dict[str, Any]], step_ended: Callable[[int], None]) -> None:
    import torch
    from torch.utils.data import DataLoader
    from transformers import default_data_collator

    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    model.train()
    loader = DataLoader(examples, BATCH, collate_fn=default_data_collator)  # type: ignore[arg-type]
    for number, inputs in enumerate(loader, start=1):
        outputs = model(**inputs)
        outputs["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        step_ended(number)


def _trainer(library: str) -> Callable[..., None]:
    def run(model: Any, examples: list[dict[str, Any]], step_ended: Callable[[int], None]) -> None:
        if library == "instar":
            from instar import Trainer, TrainerCallback, TrainingArguments
        else:
            from transformers import Trainer, TrainerCallback, TrainingArguments

        class Watch(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, _args: Any, state: Any, _control: Any, **_named: Any) -> None:
                step_ended(state.global_step)

        extra = {"fast_path": False} if library == "instar" else {}
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, per_device_train_batch_size=BATCH, num_train_epochs=1, use_cpu=True,
                save_strategy="no", report_to="none", disable_tqdm=True, logging_strategy="no", **extra,
            )  # fmt: skip
            Trainer(model=model, args=arguments, train_dataset=examples, callbacks=[Watch()]).train()

    return run


if __name__ == "__main__":
    main()
