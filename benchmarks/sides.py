"""The two sides of a comparison; each runs in a process of its own and returns what it measured."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.workloads import BETAS, LR, SEED, WEIGHT_DECAY, Prepared, Workload

GROUPED_LENGTH = 128


@dataclass
class Clock:
    """When each step ended, how many real tokens it held, and its loss."""

    times: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def result(self, warm: int) -> dict[str, Any]:
        """Real tokens a second after the first `warm` steps and before the last, in which a run saves and ends."""
        steps = len(self.times) - 1
        tokens = sum(self.tokens[warm:steps])
        seconds = self.times[steps - 1] - self.times[warm - 1]
        return {"tokens_per_second": tokens / seconds, "steps": steps, "losses": [round(x, 4) for x in self.losses]}


def run_instar(workload: Workload, prepared: Prepared, num_steps: int) -> dict[str, Any]:
    """`instar train`, called as the command calls it, with a callback that looks at the clock."""
    from instar.run.train import train
    from instar.trainer import Callback

    clock = Clock()

    class Watch(Callback):
        def step_ended(self, state: Any, result: Any) -> None:  # noqa: ARG002 (the event's own names)
            clock.losses.append(float(result.total) / result.num_targets)
            clock.tokens.append(result.num_tokens)
            clock.times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"train.budget={num_steps} steps"]
        train(prepared.run_file, overrides, output=Path(folder) / "run", extra=[Watch()])
    return clock.result(workload.warm)


def run_trainer(workload: Workload, prepared: Prepared, num_steps: int, variant: str) -> dict[str, Any]:
    """One script for `Trainer`, on the same weights and samples; only the import line differs between libraries.

    Transformers: "stock" (defaults, in instar's order of samples), "by_length" (`train_sampling_strategy` of
    group_by_length), "grouped" (the samples end to end, cut into pieces of 128 tokens). instar: "face" (defaults),
    "face_padded" (`fast_path=False`).
    """
    import torch
    from datasets import Dataset
    from transformers.utils import logging

    if variant.startswith("face"):
        from instar import Trainer, TrainerCallback, TrainingArguments
    else:
        from transformers import Trainer, TrainerCallback, TrainingArguments

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    samples, labels = prepared.samples()
    rows: list[Any] = [sample.tolist() for sample in samples]
    if variant == "grouped":
        flat = [number for row in rows for number in row]
        rows = [flat[at : at + GROUPED_LENGTH] for at in range(0, len(flat) - GROUPED_LENGTH + 1, GROUPED_LENGTH)]
    columns: dict[str, Any] = {"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}
    if labels is not None:
        columns["labels"] = labels.tolist()
    clock = Clock()
    collate = _collator(workload, prepared)

    def counted(examples: Sequence[Any]) -> Any:
        batch = collate(examples)
        clock.tokens.append(int(batch["attention_mask"].sum()))
        return batch

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_arguments: Any, **_named: Any) -> None:
            clock.times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        strategy = "group_by_length" if variant == "by_length" else "sequential"
        extra = {"fast_path": False} if variant == "face_padded" else {}
        arguments = TrainingArguments(
            output_dir=folder, max_steps=num_steps, per_device_train_batch_size=workload.batch, learning_rate=LR,
            adam_beta1=BETAS[0], adam_beta2=BETAS[1], weight_decay=WEIGHT_DECAY, lr_scheduler_type="constant",
            max_grad_norm=1.0, seed=SEED, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
            logging_steps=1, train_sampling_strategy=strategy, **extra,
        )  # fmt: skip
        trainer = Trainer(
            model=_model(workload, prepared.model),
            args=arguments,
            train_dataset=Dataset.from_dict(columns),
            data_collator=counted,
            callbacks=[Watch()],
        )
        torch.manual_seed(SEED)
        trainer.train()
        clock.losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return clock.result(workload.warm)


def _model(workload: Workload, path: Path) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

    kinds = {
        "mlm": AutoModelForMaskedLM,
        "causal_lm": AutoModelForCausalLM,
        "classify": AutoModelForSequenceClassification,
    }
    return kinds[workload.task].from_pretrained(path)


def _collator(workload: Workload, prepared: Prepared) -> Any:
    """The stock collators; they need of a tokenizer only its size and its special tokens."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import DataCollatorForLanguageModeling, DataCollatorWithPadding, PreTrainedTokenizerFast

    names = {number: f"t{number}" for number in range(prepared.facts["vocabulary"])}
    specials = {f"{name}_token": names[number] for name, number in prepared.facts["specials"].items()}
    backend = Tokenizer(WordLevel({name: number for number, name in names.items()}, unk_token=names[0]))
    specials.setdefault("pad_token", names[0])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **specials)
    if workload.task == "classify":
        return DataCollatorWithPadding(tokenizer)
    return DataCollatorForLanguageModeling(tokenizer, mlm=workload.task == "mlm", mlm_probability=0.15)
