"""The baseline beside a score: of the same targets, from the training part alone, the same in every verb."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instar.config.load import load
from instar.core.files.checksum import with_checksum
from instar.core.files.json_files import read_lines
from instar.data import Batch
from instar.run.baseline import baseline, best_of
from instar.run.check import check, describe
from instar.run.config import RunConfig
from instar.run.corpus import Splits, build_corpus, cut_corpus
from instar.task import StepContext
from instar.use.evaluate import evaluate
from tests.run.conftest import TASKS, Workshop

Trained = Callable[[str], tuple[Workshop, dict[str, Any]]]
KEYS = dict.fromkeys(TASKS, "baseline_loss") | {"classify": "baseline_accuracy"}


@pytest.mark.parametrize("task", TASKS)
def test_check_training_and_evaluate_say_the_same_baseline(trained: Trained, task: str) -> None:
    workshop, summary = trained(task)
    found = check(workshop.run_file(task), [f"data.cache={workshop.folder / 'cache'}"])
    (value,) = best_of(found["baseline"]).values()
    logged = [line for line in read_lines(workshop.folder / task / "metrics.jsonl") if line["split"] == "eval"]
    assert [line[KEYS[task]] for line in logged] == [value, value]
    assert summary[f"eval_{KEYS[task]}"] == value
    again = evaluate(Path(summary["checkpoint"]))
    assert again[KEYS[task]] == value
    assert sum(again["baseline"] in line for line in describe(found)) == 1


def test_another_file_has_its_own_baseline_and_none_without_the_training_data(trained: Trained, tmp_path: Path) -> None:
    workshop, summary = trained("classify")
    rows = tmp_path / "other.tsv"
    rows.write_text("text\tkind\nthe bird sings\tbird\nstone stone\tother\nthe bird\tother\n")
    checkpoint = Path(summary["checkpoint"])
    assert evaluate(checkpoint, input_file=rows)["baseline_accuracy"] == pytest.approx(2 / 3)
    data = workshop.folder / "rows.csv"
    data.rename(tmp_path / "moved.csv")
    try:
        assert not [key for key in evaluate(checkpoint, input_file=rows) if key.startswith("baseline")]
    finally:
        (tmp_path / "moved.csv").rename(data)


def _run(
    folder: Path, sequence: str, *, task: str, max_length: int, options: tuple[str, ...] = ()
) -> tuple[RunConfig, Any, Splits]:
    from instar.run.build import make_network

    (folder / "genome.fa").write_text(f">one\n{sequence}\n")
    file = folder / "run.yaml"
    model = "bert" if task == "mlm" else "gpt2"
    file.write_text(
        f"model: {{config: {model}, num_layers: 1, hidden_size: 8, num_heads: 1, max_length: {max_length}}}\n"
        f"tokenizer: {{kind: kmer, k: 1}}\ntask: {{kind: {task}}}\n"
        f"data: {{train: {{kind: fasta, path: {json.dumps(str(folder / 'genome.fa'))}}}, eval: {{split: 0.25}},"
        f" max_length: {max_length}, too_long: window, cache: {json.dumps(str(folder / 'cache'))}}}\n"
        "train: {budget: 1 steps, batch_samples: 2}\n"
    )
    config = load(file, RunConfig, options).value
    corpus = build_corpus(config, lambda line: None)
    built = config.task.build(corpus.tokenizer)
    network = make_network(config, corpus.tokenizer, corpus.labels, built, tell=lambda line: None)
    return config, built, cut_corpus(config, corpus, network)


def test_the_unigram_is_of_the_masked_tokens_of_the_evaluation(tmp_path: Path) -> None:
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 4000, p=[0.4, 0.3, 0.2, 0.1]))
    config, task, splits = _run(tmp_path, sequence, task="mlm", max_length=34)
    assert splits.evaluation is not None
    context = StepContext(seed=config.seed, step=0, progress=1.0, evaluating=True)
    targets = [task.prepare(batch, context).target_M for batch in splits.evaluation.batches(500)]
    tokens = [token for target in targets if target is not None for token in target.tolist()]
    counted: Counter[int] = Counter()
    for batch in splits.train.batches(500):
        counted.update(batch.ids_T[batch.maskable_T].tolist())
    ordinary = splits.train.tokenizer.vocab_size - len(splits.train.tokenizer.special_ids)
    total = counted.total() + ordinary
    wanted = -sum(math.log((counted[token] + 1) / total) for token in tokens) / len(tokens)
    rows = baseline(config, task, splits.train, splits.evaluation)
    assert rows[0] == {"name": "unigram", "loss": pytest.approx(wanted)}
    assert rows[1]["name"] == "3 on either side"
    kept = list((tmp_path / "cache").glob("baseline-*.json"))
    changed = {"rows": [{"name": "kept", "loss": 1.0}]}
    kept[0].write_text(json.dumps(with_checksum(changed)))
    assert baseline(config, task, splits.train, splits.evaluation)[0]["name"] == "kept"
    for damaged in (json.dumps(changed), "{"):
        kept[0].write_text(damaged)
        assert baseline(config, task, splits.train, splits.evaluation) == rows


def _evaluated(config: RunConfig, task: Any, splits: Splits) -> list[tuple[Batch, Batch]]:
    """Batches of the evaluation, and what the network sees of them."""
    assert splits.evaluation is not None
    context = StepContext(seed=config.seed, step=0, progress=1.0, evaluating=True)
    return [(batch, task.prepare(batch, context)) for batch in splits.evaluation.batches(500)]


def test_counting_sees_no_neighbor_that_the_network_does_not_see(tmp_path: Path) -> None:
    options = ("task.rate=0.5", "task.mask_share=1.0")
    config, task, splits = _run(tmp_path, "ACGT" * 2000, task="mlm", max_length=35, options=options)
    alone = total = 0
    for batch, prepared in _evaluated(config, task, splits):
        document = np.repeat(np.arange(len(batch)), batch.lengths)
        is_base = ~np.isin(prepared.ids_T.numpy(), list(splits.train.tokenizer.special_ids))
        for place in prepared.read_M.tolist():
            near = [q for q in range(place - 3, place + 4) if 0 <= q < len(document) and document[q] == document[place]]
            alone += not is_base[near].any()
            total += 1
    row = baseline(config, task, splits.train, splits.evaluation)[1]
    assert row["unmasked_loss"] < 0.01
    assert row["loss"] == pytest.approx(alone / total * math.log(4), abs=0.003)


def test_what_a_target_shows_of_itself_counts_in_the_shares_of_the_task(tmp_path: Path) -> None:
    sequence = "".join(np.random.default_rng(0).choice(list("ACGT"), 40_000))
    options = ("task.mask_share=0.0", "task.random_share=0.5")
    config, task, splits = _run(tmp_path, sequence, task="mlm", max_length=34, options=options)
    prepared = [prepared for _, prepared in _evaluated(config, task, splits)]
    is_right = torch.cat([batch.ids_T[batch.read_M] == batch.target_M for batch in prepared]).float()
    row = baseline(config, task, splits.train, splits.evaluation)[1]
    right = is_right.mean().item()
    assert row["loss"] == pytest.approx(-right * math.log(0.625) - (1 - right) * math.log(0.125), abs=0.005)
    assert row["unmasked_loss"] == pytest.approx(math.log(4), abs=0.005)


def test_neighbors_on_the_left_tell_a_causal_model_what_repeats(tmp_path: Path) -> None:
    config, task, splits = _run(tmp_path, "AACAGATCCGCTGGTTTAC" * 200, task="causal_lm", max_length=64)
    assert splits.evaluation is not None
    unigram, left = baseline(config, task, splits.train, splits.evaluation)
    assert left["name"] == "6 on the left"
    assert left["loss"] < 0.5 < unigram["loss"]


def test_the_best_checkpoint_is_kept_and_named_at_the_end(workshop: Workshop) -> None:
    options = ("train.budget=40 steps", "train.eval_every=2 steps", "train.keep_last=1", "train.best_metric=accuracy")
    stopping = "train.early_stopping={metric: accuracy, patience: 2}"
    summary = workshop.train("classify", (*options, stopping))
    lines = read_lines(workshop.folder / "classify" / "metrics.jsonl")
    scores = {line["step"]: line["accuracy"] for line in lines if line["split"] == "eval"}
    best = max(scores, key=lambda step: (scores[step], -step))
    assert summary["best_checkpoint"] == str(workshop.folder / "classify" / f"checkpoint-{best}")
    assert summary["best_score"] == scores[best] == evaluate(Path(summary["best_checkpoint"]))["accuracy"]
    assert summary["stopped"] == "no gain in accuracy for 2 evaluations"
    assert max(scores) == best + 4 < 40
