"""Promises 2 and 4: what may not change the curve does not, and scores are the same however they are computed."""

import multiprocessing.resource_tracker
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from recipes import RECIPES, lines_of
from runs import SMOOTH, distance, last, left, losses, run

from instar.inference.evaluate import Evaluator
from instar.run.corpus import build_corpus, cut_corpus
from instar.run.saved import take_up


@pytest.mark.parametrize("name", RECIPES)
def test_what_happens_around_a_step_changes_nothing(
    name: str, shrunk: Callable, reference: Callable, tmp_path: Path
) -> None:
    """Prefetching, logging, evaluating, saving and a new token cache: weights equal bit for bit."""
    other = ("train.prefetch=2", "train.log_every=3", "train.eval_every=1 steps", "train.save_every=5 steps")
    again = ("train.keep_last=1", f"data.cache={tmp_path / 'cache'}")
    bears = () if shrunk(name).config.train.early_stopping is None else ("train.early_stopping.patience=99",)
    run(shrunk(name), tmp_path / "run", *other, *again, *bears)
    found, wanted = left(tmp_path / "run"), left(reference(name))
    assert {key: found[key] for key in found if "tensors" in key} == {
        key: wanted[key] for key in wanted if "tensors" in key
    }
    scores = {row["step"]: row for row in lines_of(tmp_path / "run" / "metrics.jsonl", "eval")}
    for row in lines_of(reference(name) / "metrics.jsonl", "eval"):
        assert scores[row["step"]] == row
    unwatched = ("data.eval=null", "train.early_stopping=null", "train.log_every=8")
    never = unwatched if not hasattr(shrunk(name).config.data.eval, "fraction") else ()
    if never:
        whole = "train.compact_embedding=false"  # rows that only held-out tokens use would be in one run's table alone
        run(shrunk(name), tmp_path / "never", *never, whole)
        assert distance(tmp_path / "never", reference(name, whole)) == 0


@pytest.fixture(scope="module")
def resource_tracker() -> None:
    """The process that Python starts beside the first pool, and keeps."""
    multiprocessing.resource_tracker.ensure_running()


def test_processes_that_tokenise_change_nothing(
    resource_tracker: None, shrunk: Callable, reference: Callable, tmp_path: Path
) -> None:
    name = RECIPES[-1]
    run(shrunk(name), tmp_path / "run", f"data.cache={tmp_path / 'cache'}", "data.processes=2")
    assert left(tmp_path / "run") == left(reference(name))


@pytest.mark.parametrize("name", RECIPES)
def test_the_size_of_pieces_changes_nothing(name: str, shrunk: Callable, reference: Callable, tmp_path: Path) -> None:
    """Ragged pieces; a piece of one document; the whole step: equal within rounding, at one learning rate for all."""
    options = (SMOOTH, "train.optimizer.lr=3e-3")
    whole = reference(name, *options)
    for size in (1, 50):
        run(shrunk(name), tmp_path / f"{size}", *options, f"train.micro_tokens={size}")
        assert losses(tmp_path / f"{size}") == pytest.approx(losses(whole), rel=1e-6)
        assert distance(tmp_path / f"{size}", whole) < 1e-6


@pytest.mark.parametrize("name", RECIPES)
def test_scores_are_the_same_at_every_batch_size(name: str, reference: Callable) -> None:
    saved = take_up(last(reference(name)))
    corpus = build_corpus(saved.config, print, saved.folder)
    evaluation = cut_corpus(saved.config, corpus, saved.network).evaluation
    evaluator = Evaluator(
        network=saved.network,
        task=saved.task,
        seed=saved.config.seed,
        device=torch.device("cpu"),
        label_names=saved.labels.names,
    )
    wanted = evaluator.scores(evaluation.batches(8192))
    for size in (1, 37, 150):
        found = evaluator.scores(evaluation.batches(size))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            if isinstance(value, float):
                assert found[key] == pytest.approx(value, rel=2e-6, abs=1e-6), key
            else:
                assert found[key] == value, key
    parts = [evaluation.batches(60, rank=rank, shares=3) for rank in range(3)]
    shared = evaluator.scores(batch for part in parts for batch in part)
    assert shared["loss"] == pytest.approx(wanted["loss"], rel=2e-6)
    assert not saved.network.training
